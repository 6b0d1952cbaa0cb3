package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// scheduleSpacing is the shortest time between the end of a rotation and the next one by schedule,
// whatever the schedule says: what fails does not fail over and over.
const scheduleSpacing = time.Hour

// scheduleLook is how often a root is looked at whose rotation is due and can't begin yet.
const scheduleLook = time.Minute

// rootPast is what is known of the rotations of a root.
type rootPast struct {
	newest *cred.Rotation // nil: there was none
	open   bool           // one of them is not over
	last   time.Time      // the end from which its schedule counts; zero: none
}

// lastRotations returns what is known of each root that is configured.
func (b *Broker) lastRotations(ctx context.Context) (map[string]rootPast, error) {
	var past map[string]rootPast
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		past = map[string]rootPast{}
		unknown := len(b.cfg.Roots)
		for r, err := range pastRotations(tx) {
			if err != nil || unknown == 0 {
				return err
			}
			if _, ok := b.root(r.Root); !ok {
				continue
			}
			p := past[r.Root]
			if p.newest == nil {
				p.newest = &r
			}
			p.open = p.open || !r.Over()
			if p.last.IsZero() && b.counts(r) {
				p.last = r.EndedAt
				unknown--
			}
			past[r.Root] = p
		}
		return nil
	})
	return past, err
}

// counts reports whether a root's schedule counts from the end of a rotation: from one that succeeded,
// and from each of its own. One that somebody asked for in vain postpones nothing.
func (b *Broker) counts(r cred.Rotation) bool {
	return r.State() == cred.RotationDone || r.Over() && r.By.Same(b.self())
}

// dueAfter returns when a root's schedule rotates it; zero: never.
func dueAfter(root Root, p rootPast) time.Time {
	if root.Schedule == nil {
		return time.Time{}
	}
	due := root.Schedule(p.last)
	if spaced := p.last.Add(scheduleSpacing); !due.IsZero() && !p.last.IsZero() && due.Before(spaced) {
		return spaced
	}
	return due
}

// beginScheduled begins the rotations that are due by a schedule.
func (b *Broker) beginScheduled(ctx context.Context) error {
	if !b.scheduleDue() {
		return nil
	}
	past, err := b.lastRotations(ctx)
	if err != nil {
		return err
	}
	var next time.Time
	for _, root := range b.cfg.Roots {
		due := dueAfter(root, past[root.Name])
		if due.IsZero() {
			continue
		}
		if b.now().Before(due) {
			next = earliest(next, due)
			continue
		}
		next = earliest(next, b.now().Add(scheduleLook)) // what became of it
		if past[root.Name].open {
			continue
		}
		if _, err := b.recordRotation(ctx, root, Caller{Principal: b.self()}, "by its schedule", false); err != nil && cred.KindOf(err) != cred.Conflict {
			b.cfg.Logger.ErrorContext(ctx, "a rotation that is due could not begin; it is tried again", "root", root.Name, "error", err)
		}
	}
	b.nextSchedule.Store(&next)
	return nil
}

// scheduleDue reports whether a schedule may be due. What makes one due earlier than was known is the
// end of a rotation at the most, which only makes it later.
func (b *Broker) scheduleDue() bool {
	next := b.nextSchedule.Load()
	return next == nil || !next.IsZero() && !b.now().Before(*next)
}

// self is the broker as who asks for what its schedules bring.
func (b *Broker) self() cred.Principal {
	return cred.Principal{Provider: "daypass", Issuer: b.cfg.URL, Subject: "schedule", Name: "daypass, by its schedule", Kind: cred.KindWorkload}
}
