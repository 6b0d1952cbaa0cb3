package broker

import (
	"context"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/store"
)

// rotationTurns is how many turns of AdvanceRotations may run at once: each that hangs at a source holds
// its rotation by a claim, and the next turn goes on with the others.
const rotationTurns = 16

// HoldRotations begins no further step of a rotation, for a broker that is about to stop. Run goes on with
// all else, and waits for the steps that are under way.
func (b *Broker) HoldRotations() { b.hold() }

// runRotations advances what is due of rotations until ctx ends or they are held, and returns once all its
// turns have: a step that is under way at its source is done first.
func (b *Broker) runRotations(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.held, cancel)()
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, rotationTurns)
	tick := time.NewTicker(b.cfg.SweepInterval)
	defer tick.Stop()
	for {
		select {
		case places <- struct{}{}:
			wg.Go(func() {
				defer func() { <-places }()
				if err := b.AdvanceRotations(ctx); err != nil && ctx.Err() == nil {
					b.cfg.Logger.ErrorContext(ctx, "rotations could not be advanced; it is tried again at the next turn", "error", err)
				}
			})
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-b.kicked:
		}
	}
}

// AdvanceRotations does one turn of what Run does for rotations: it begins those that are due by a
// schedule, and takes each as far as it goes now. Several turns may run at once, in several brokers on
// one store, too.
func (b *Broker) AdvanceRotations(ctx context.Context) error {
	if err := b.beginScheduled(ctx); err != nil {
		return err
	}
	return b.eachDue(ctx, store.Rotations, b.advanceRotation)
}

func (b *Broker) advanceRotation(ctx context.Context, key store.Key) error {
	for ctx.Err() == nil {
		on, err := b.stepRotation(ctx, cred.RotationID(key.ID))
		if err != nil || !on {
			return err
		}
	}
	return ctx.Err()
}

// stepRotation does the next step of a rotation if it is due: the one way in which rotations get on. It
// reports whether another one may be due now.
func (b *Broker) stepRotation(ctx context.Context, id cred.RotationID) (on bool, err error) {
	r, err := b.rotation(ctx, id)
	if err != nil || r.Over() {
		return false, err
	}
	if r.State() == cred.RotationPending {
		if g, err := b.approvalOf(ctx, r); err != nil || g.State() == cred.GrantPending {
			return false, err
		}
		return b.startRotation(ctx, id)
	}
	step := "rotate." + string(r.Step())
	failpoint.Hit(step + ".before")
	c, ok, err := b.claimStep(ctx, id)
	if err != nil || !ok {
		return false, err
	}
	failpoint.Hit(step + ".after-begin")
	a := b.act(ctx, c)
	failpoint.Hit(step + ".after-act")
	on, err = b.concludeStep(ctx, c, a)
	failpoint.Hit(step + ".after-outcome")
	return on, err
}
