package policy

import (
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Upkeep is when, and with whose agreement, a root credential is rotated.
type Upkeep struct {
	// Demand is whose agreement is needed; nil: nobody's.
	Demand *cred.Demand

	every   time.Duration // zero: no schedule
	windows []window
}

// The bounds of Schedule.Every: a root that changes more often is no root, and one that changes less often
// than every three years is forgotten.
const (
	minEvery = time.Hour
	maxEvery = 3 * 366 * 24 * time.Hour
)

// CompileUpkeep checks the schedule and the approval that stand below a path of the file that src is
// of; both may be nil.
func CompileUpkeep(src Source, path string, schedule *Schedule, approval *Approval) (Upkeep, strictyaml.Problems) {
	c := &compiler{src: src}
	var u Upkeep
	if schedule != nil {
		u.every = schedule.Every
		c.duration(path+".schedule.every", schedule.Every, minEvery, maxEvery)
		u.windows = c.windows(path+".schedule.windows", schedule.Windows)
	}
	if approval != nil {
		var r rule
		c.approval(path+".approval", &r, approval)
		if approval.OnCall != "" {
			c.refuse(path+".approval.on_call", "is not for rotations: who is on call would decide alone", "")
		}
		u.Demand = r.demand
	}
	return u, c.problems
}

// Next returns when a rotation is to be done whose last one ended at an instant, zero for a root that was
// never rotated: once the schedule's time has passed and a window is open. It is not after now where it
// is to be done at once; where the window of its time has passed, the next one counts. It is zero without
// a schedule.
func (u Upkeep) Next(last, now time.Time) time.Time {
	if u.every == 0 {
		return time.Time{}
	}
	due := last.Add(u.every)
	look := due
	if due.Before(now) {
		look = now
	}
	if _, open := openUntil(u.windows, look); open {
		return due
	}
	next, ok := nextOpening(u.windows, look)
	if !ok { // windows that never open, which a clock that skips them alone could cause
		return time.Time{}
	}
	return next
}
