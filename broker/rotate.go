package broker

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Rotate begins to replace a root by another, or asks for the approval of that where the root needs it.
// name is the root's, or that of an issuer or a target that has exactly one root. It returns once the
// intent is recorded; Run does the rest, and after a crash goes on with it. The error is Conflict where
// a rotation of the root is not over. For the role "security".
func (b *Broker) Rotate(ctx context.Context, who Caller, name, reason string) (cred.Rotation, error) {
	if !b.HasRole(who.Principal, RoleSecurity) {
		return cred.Rotation{}, b.Refused(ctx, who.Principal, "rotation.rotate")
	}
	root, err := b.rootFor(name)
	if err != nil {
		return cred.Rotation{}, err
	}
	r, err := b.recordRotation(ctx, root, who, reason, true)
	return shown(r), err
}

// recordRotation writes the journal of a rotation that is to come, or where hurries is set that the one which
// waits for its window begins now. Which of the two it is, is decided in the transaction that writes it.
func (b *Broker) recordRotation(ctx context.Context, root Root, who Caller, reason string, hurries bool) (cred.Rotation, error) {
	var r cred.Rotation
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		now := b.now()
		open, found, err := b.openRotationOf(tx, root.Name)
		if err != nil {
			return err
		}
		hurried := found && hurries && open.Waits(now)
		if found && !hurried {
			return &cred.Error{
				Kind: cred.Conflict, Op: "rotation", Reason: "ROTATION_OPEN",
				Public: "the rotation " + string(open.ID) + " of this root is " + string(open.State()) + "; wait for its end",
			}
		}
		if err := b.checkRotationLocks(tx, root, who.Principal); err != nil {
			return err
		}
		if err := spend(tx, who.once, now); err != nil {
			return err
		}
		if hurried {
			r, err = hurryIn(ctx, tx, root, open, who.Principal, reason, now)
		} else {
			r, err = b.beginIn(ctx, tx, root, who.Principal, reason, now)
		}
		return err
	})
	if err != nil {
		if refusal, ok := errors.AsType[refused](err); ok {
			err = refusal.why
		}
		return cred.Rotation{}, notRecorded(err)
	}
	if r.State() == cred.RotationPending {
		b.waiters.changed(r.Grant)
	}
	b.kick(r.ID)
	return r, nil
}

// hurryIn has a rotation begin now that is approved and waits for its window: who asks for a rotation has a
// reason not to wait.
func hurryIn(ctx context.Context, tx store.Tx, root Root, open cred.Rotation, who cred.Principal, reason string, now time.Time) (cred.Rotation, error) {
	r, err := open.Hurry(now)
	if err != nil {
		return r, err
	}
	if err := putRotation(tx, r); err != nil {
		return r, err
	}
	r.Rev++
	e := rotationEvent(ctx, root, r, stepIntent, outcomeHurried, now, map[string]any{"reason": reason})
	e.Principal = audit.PrincipalOf(who)
	return r, tx.Append(e)
}

// beginIn writes the journal of a rotation that is to come, and the request for its approval where it needs
// one.
func (b *Broker) beginIn(ctx context.Context, tx store.Tx, root Root, who cred.Principal, reason string, now time.Time) (cred.Rotation, error) {
	id := cred.NewRotationID(now)
	var grant cred.GrantID
	if root.Demand != nil {
		g, err := b.requestRotation(ctx, tx, root, who, reason, now)
		if err != nil {
			return cred.Rotation{}, err
		}
		grant = g.ID
	}
	r := cred.NewRotation(id, root.Name, who, reason, grant, now)
	if err := putRotation(tx, r); err != nil {
		return r, err
	}
	r.Rev++
	return r, tx.Append(rotationEvent(ctx, root, r, stepIntent, intentOutcome(r), now, map[string]any{"reason": reason}))
}

// CheckRotation does what a rotation of a root would look at first, and changes nothing; the source may be
// asked for a trial credential, so the log has it before and after. It returns the root's own name. For the
// role "security".
func (b *Broker) CheckRotation(ctx context.Context, who Caller, name string) (root string, findings []cred.Finding, err error) {
	if !b.HasRole(who.Principal, RoleSecurity) {
		return "", nil, b.Refused(ctx, who.Principal, "rotation.check")
	}
	found, err := b.rootFor(name)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.actTimeout())
	defer cancel()
	now := b.now()
	r := cred.NewRotation(cred.NewRotationID(now), found.Name, who.Principal, "", "", now)
	r.BegunAt, r.Attempt = now, 1
	event := func(outcome string, more map[string]any) audit.Event {
		e := rotationEvent(ctx, found, r, string(cred.StepCheck), outcome, b.now(), more)
		e.Detail["dry_run"] = true
		return e
	}
	if err := b.append(ctx, event(outcomeBegun, nil)); err != nil {
		return "", nil, err
	}
	findings, failed := b.checkRoot(ctx, found, r)
	outcome := event(outcomeLooked, nil)
	if len(findings) > 0 {
		outcome.Detail["findings"] = detailOf(findings)
	}
	if failed != nil {
		outcome.Error = audit.ErrorOf(failed)
	}
	dry := claim{Rotation: r, root: found}
	ctx = context.WithoutCancel(ctx)
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := b.raiseStepAlarm(ctx, tx, dry, failed, outcome.Time); err != nil {
			return err
		}
		return tx.Append(outcome)
	})
	b.tellStepAlarmLost(ctx, dry, failed, err)
	if err != nil {
		return "", nil, notRecorded(err)
	}
	return found.Name, findings, failed
}

// checkRotationLocks refuses a rotation that a lock forbids. A lock that covers everything does not: that is
// set when a root may be known to others, and then it has to be replaced.
func (b *Broker) checkRotationLocks(tx store.Tx, root Root, who cred.Principal) error {
	for record, err := range tx.Scan(store.Query{Table: store.Locks}) {
		if err != nil {
			return err
		}
		l, err := decodeLock(record)
		if err != nil {
			return err
		}
		all := l.Issuer == "" && l.Subject == "" && l.Target == ""
		if !all && (l.NotAfter.IsZero() || b.now().Before(l.NotAfter)) && l.covers(who, rotationTarget+root.Name) {
			return &cred.Error{
				Kind: cred.Denied, Op: "rotation", Reason: "LOCKED",
				Public: "this is locked by the people who run this broker (" + l.ID + "); ask them",
			}
		}
	}
	return nil
}

// requestRotation writes the request for the approval of a rotation, and has those told who are asked.
func (b *Broker) requestRotation(ctx context.Context, tx store.Tx, root Root, who cred.Principal, reason string, now time.Time) (cred.Grant, error) {
	want := cred.Request{Target: rotationTarget + root.Name, Reason: reason}
	g := cred.NewRequest(cred.NewGrantID(now), who, want, *root.Demand, rotationLife, now)
	g.Rule, g.PolicyHash = want.Target, b.policy.Load().Hash()
	if err := createGrant(tx, g); err != nil {
		return g, err
	}
	g.Rev++
	if err := putRequest(tx, g.ID, remindAt(g, now)); err != nil {
		return g, err
	}
	if err := b.notify(tx, notice.RequestPending, g, g.Demand.Groups(), "asks for approval to rotate the root "+root.Name); err != nil {
		return g, err
	}
	return g, tx.Append(rotationGrantEvent(ctx, audit.ExchangePending, g, now))
}

func rotationGrantEvent(ctx context.Context, kind audit.Kind, g cred.Grant, now time.Time) audit.Event {
	return audit.Event{
		Kind: kind, Time: now, Peer: peerOf(ctx), Grant: g.ID,
		Principal: audit.PrincipalOf(g.Holder), Request: audit.RequestOf(g.Want, g.Digest), Approvals: audit.ApprovalsOf(g.Approvals...),
		Decision: &audit.Decision{Allowed: true, Rule: g.Rule, PolicyHash: g.PolicyHash, Demand: g.Demand},
	}
}

// rotationLife bounds the life of the grant that stands for an approved rotation. It ends with the
// rotation; one that takes longer does not need it any more.
const rotationLife = 30 * 24 * time.Hour

// kick has Run look at the rotations now.
func (b *Broker) kick(id cred.RotationID) {
	b.rotations.changed(cred.GrantID(id))
	select {
	case b.kicked <- struct{}{}:
	default:
	}
}
