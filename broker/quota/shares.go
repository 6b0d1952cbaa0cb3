package quota

import "time"

// shares are what the principals took of a total in the period that runs.
type shares struct {
	rate   rate
	ends   time.Duration    // when the period is over
	taken  map[caller]int64 // those who took any
	now    askers
	before askers // in the period before
}

// begin begins a new period where the last one is over or was one of another rate.
func (s *shares) begin(r rate, now time.Duration) {
	if s.rate == r && now < s.ends {
		return
	}
	before := s.now
	if s.forgotten(now) {
		before = askers{}
	}
	*s = shares{rate: r, ends: now + r.period(), taken: make(map[caller]int64), before: before}
}

// forgotten reports whether a whole period has gone by in which nobody asked.
func (s *shares) forgotten(now time.Duration) bool { return now-s.ends >= s.rate.period() }

// contended reports whether anybody else has asked of late.
func (s *shares) contended(who caller) bool { return s.now.other(who) || s.before.other(who) }

// askers tells whether one or several have asked, in no more memory than that takes.
type askers struct {
	first        caller
	any, several bool
}

func (a *askers) add(who caller) {
	a.several = a.several || a.any && a.first != who
	if !a.any {
		a.first, a.any = who, true
	}
}

// other reports whether anybody but who has asked.
func (a askers) other(who caller) bool { return a.several || a.any && a.first != who }
