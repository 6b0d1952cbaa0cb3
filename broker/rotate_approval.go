package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// rotationReviewed has a rotation begin, or end, whose request has just got a verdict. Should that fail,
// Run does it.
func (b *Broker) rotationReviewed(ctx context.Context, g cred.Grant) {
	if !isForRotation(g) || g.State() == cred.GrantPending {
		return
	}
	ctx = context.WithoutCancel(ctx)
	var id cred.RotationID
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		for r, err := range b.openRotations(tx) {
			if err != nil {
				return err
			}
			if r.Grant == g.ID {
				id = r.ID
			}
		}
		return nil
	})
	if err == nil && id != "" {
		_, err = b.startRotation(ctx, id)
	}
	if err != nil {
		b.cfg.Logger.WarnContext(ctx, "a rotation that was judged could not begin yet; it is tried again", "grant", g.ID, "error", err)
	}
}

// startRotation does what follows from the verdict on a rotation's request, if there is one: in one
// transaction it uses up the approval and starts the rotation, or ends both. It reports whether the
// rotation runs since.
func (b *Broker) startRotation(ctx context.Context, id cred.RotationID) (started bool, err error) {
	var next cred.Rotation
	var g cred.Grant
	past, err := b.lastRotations(ctx)
	if err != nil {
		return false, err
	}
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		started = false
		r, err := getRotation(tx, id)
		if err != nil || r.State() != cred.RotationPending {
			return err
		}
		if g, err = getGrant(tx, r.Grant); err != nil || g.State() == cred.GrantPending {
			return err
		}
		now := b.now()
		active, why := b.useApproval(r, g, now)
		if why != "" {
			next, err = b.refuseRotation(ctx, tx, r, g, why, now)
			return err
		}
		started = true
		next, err = b.startIn(ctx, tx, r, active, past[r.Root], now)
		return err
	})
	if err != nil {
		return false, notRecorded(err)
	}
	if next.ID != "" {
		b.waiters.changed(g.ID)
		b.kick(id)
	}
	return started, nil
}

// startIn starts a rotation that was approved: one by a schedule in its next window, should the one in
// which it was asked for have passed meanwhile.
func (b *Broker) startIn(ctx context.Context, tx store.Tx, r cred.Rotation, active cred.Grant, past rootPast, now time.Time) (cred.Rotation, error) {
	root, at, why := b.rootOrName(r.Root), now, ""
	var more map[string]any
	if due := dueAfter(root, past); r.By.Same(b.self()) && due.After(now) {
		at, why = due, "it is approved, and begins in its next window"
		more = map[string]any{"not_before": due.UTC().Format(time.RFC3339)}
	}
	next, err := r.Start(at, why)
	if err != nil {
		return r, err
	}
	if err := putGrant(tx, active, active.NotAfter); err != nil {
		return r, err
	}
	if err := tx.Append(rotationGrantEvent(ctx, audit.ExchangeGranted, active, now)); err != nil {
		return r, err
	}
	if err := putRotation(tx, next); err != nil {
		return r, err
	}
	e := rotationEvent(ctx, root, next, stepIntent, outcomeBegun, now, more)
	e.Approvals = audit.ApprovalsOf(active.Approvals...)
	return next, tx.Append(e)
}

// useApproval returns the grant as it is once its approvals have been used, or why they can't be. Who
// asked, and the root, are held against the configuration again.
func (b *Broker) useApproval(r cred.Rotation, g cred.Grant, now time.Time) (cred.Grant, string) {
	root, known := b.root(r.Root)
	switch {
	case g.State() == cred.GrantDenied:
		return g, "an approver refused it"
	case g.State() == cred.GrantExpired:
		return g, "nobody approved it in time"
	case g.State() == cred.GrantRevoked:
		return g, "its request was taken back"
	case !known:
		return g, "the root is not configured any more"
	case !r.By.Same(b.self()) && !b.HasRole(r.By, RoleSecurity):
		return g, "who asked for it may not rotate roots any more"
	case root.Demand != nil && !root.Demand.Met(g.Approvals):
		return g, "the approval that the root needs has changed since it was given"
	}
	active, err := g.Activate(now)
	if err != nil {
		return g, cred.PublicText(err)
	}
	return active, ""
}

func (b *Broker) refuseRotation(ctx context.Context, tx store.Tx, r cred.Rotation, g cred.Grant, why string, now time.Time) (cred.Rotation, error) {
	next, err := r.Refuse(now, why)
	if err != nil {
		return r, err
	}
	if !g.Over() {
		if _, err := b.revokeIn(ctx, tx, g, b.self(), why); err != nil {
			return r, err
		}
	}
	if err := putRotation(tx, next); err != nil {
		return r, err
	}
	return next, tx.Append(rotationEvent(ctx, b.rootOrName(r.Root), next, stepIntent, outcomeRefused, now, map[string]any{"why": why}))
}

// rootOrName returns a root, or one that has but its name where it is not configured any more.
func (b *Broker) rootOrName(name string) Root {
	if root, ok := b.root(name); ok {
		return root
	}
	return Root{Name: name}
}

// endRotationGrant ends what stands for the approval of a rotation that is over.
func (b *Broker) endRotationGrant(ctx context.Context, tx store.Tx, r cred.Rotation) error {
	if r.Grant == "" {
		return nil
	}
	g, err := getGrant(tx, r.Grant)
	if err != nil || g.Over() {
		return err
	}
	_, err = b.revokeIn(ctx, tx, g, b.self(), "the rotation that it was for is over")
	return err
}

// approvalOf returns the grant of a rotation; the zero one where it needed none.
func (b *Broker) approvalOf(ctx context.Context, r cred.Rotation) (g cred.Grant, err error) {
	if r.Grant == "" {
		return cred.Grant{}, nil
	}
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, r.Grant)
		return err
	})
	return g, err
}

// intentOutcome says what the first entry of a rotation tells.
func intentOutcome(r cred.Rotation) string {
	if r.State() == cred.RotationPending {
		return outcomeAsked
	}
	return outcomeBegun
}

// The steps of the log that are none of the journal, and the outcomes of all. Those of steps that are
// over are cred's.
const (
	stepIntent = "intent"

	outcomeAsked   = "asked"   // it waits for approval
	outcomeBegun   = "begun"   // the step is about to be done
	outcomeLooked  = "looked"  // a dry run is over
	outcomeHurried = "hurried" // somebody has what waits for its window begin now
	outcomeRefused = "refused" // nobody approved
	outcomeWaits   = "waits"   // it waits for a person; people are told
	outcomeStuck   = "stuck"   // it does not get on; people are told
)

// rotationEvent is the entry of one step of a rotation.
func rotationEvent(ctx context.Context, root Root, r cred.Rotation, step, outcome string, now time.Time, more map[string]any) audit.Event {
	detail := map[string]any{"root": r.Root, "outcome": outcome, "state": string(r.State())}
	for name, value := range map[string]string{"old": r.Old, "new": r.New} {
		if value != "" {
			detail[name] = cut(value, maxRootName)
		}
	}
	for name, value := range more {
		if value != "" && value != nil {
			detail[name] = value
		}
	}
	return audit.Event{
		Kind: audit.RotationStep, Time: now, Peer: peerOf(ctx), Grant: r.Grant, Principal: audit.PrincipalOf(r.By),
		Rotation: &audit.Rotation{ID: string(r.ID), Issuer: root.Issuer, Step: step}, Detail: detail,
	}
}
