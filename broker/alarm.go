package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// raiseAlarm records, and tells people, that an issuer's error looks like an attack; of any other error
// it does nothing. The caller goes on: what may have been made is taken back whether or not this could be
// recorded, and where it could not, the broker's own log says so.
func (b *Broker) raiseAlarm(ctx context.Context, g cred.Grant, l cred.Lease, why error) {
	e, alarming := issuer.Alarm(why)
	if !alarming {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.IssueTimeout)
	defer cancel()
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := b.notifyAlarm(tx, g, l, e); err != nil {
			return err
		}
		event := b.leaseEvent(ctx, audit.AlarmRaised, l)
		event.Principal, event.Error = audit.PrincipalOf(g.Holder), audit.ErrorOf(e)
		event.Detail = map[string]any{"reason": e.Reason, "issuer": l.Issuer, "what": cred.PublicText(e)}
		return tx.Append(event)
	})
	if err != nil {
		b.cfg.Logger.ErrorContext(ctx, "an alarm could not be recorded, and nobody was told",
			"reason", e.Reason, "issuer", l.Issuer, "grant", l.Grant, "lease", l.ID, "alarm", e, "error", err)
	}
}

// raiseStepAlarm records, and tells people, that what came of a step of a rotation looks like an attack; of
// any other error it does nothing. A try that ends as the one before it did is not told again.
func (b *Broker) raiseStepAlarm(ctx context.Context, tx store.Tx, c claim, why error, now time.Time) error {
	e, alarming := issuer.Alarm(why)
	if !alarming || c.Attempt > 1 && c.Why == cred.PublicText(e) {
		return nil
	}
	text := "of the root " + c.Rotation.Root + " met " + e.Reason + " at the step " + string(c.Step()) + ": " + cred.PublicText(e)
	if err := b.notifyOf(tx, notice.AlarmRaised, c, text, now); err != nil {
		return err
	}
	event := rotationEvent(ctx, c.root, c.Rotation, string(c.Step()), "", now, nil)
	event.Kind, event.Error = audit.AlarmRaised, audit.ErrorOf(e)
	event.Detail = map[string]any{"reason": e.Reason, "issuer": c.root.Issuer, "root": c.Rotation.Root, "what": cred.PublicText(e)}
	return tx.Append(event)
}

// tellStepAlarmLost writes to our own log that what came of a step could not be recorded, if that was an alarm.
func (b *Broker) tellStepAlarmLost(ctx context.Context, c claim, why, err error) {
	if e, alarming := issuer.Alarm(why); alarming && err != nil {
		b.cfg.Logger.ErrorContext(ctx, "an alarm could not be recorded, and nobody was told",
			"reason", e.Reason, "issuer", c.root.Issuer, "rotation", c.ID, "root", c.Rotation.Root, "step", c.Step(), "alarm", e, "error", err)
	}
}

func (b *Broker) notifyAlarm(tx store.Tx, g cred.Grant, l cred.Lease, e *cred.Error) error {
	if b.cfg.Notify == nil {
		return nil
	}
	n := notice.Notice{
		ID: noticeID(string(l.ID), notice.AlarmRaised, b.now()), Kind: notice.AlarmRaised, At: b.now(), Grant: g.ID,
		Requester: nameOf(g.Holder), Target: g.Want.Target, Scopes: g.Want.Scopes, Rule: g.Rule,
		Text: e.Reason + " at the issuer " + l.Issuer + ": " + cred.PublicText(e),
	}
	if g.Holder.Actor != nil {
		n.Actor = nameOf(*g.Holder.Actor)
	}
	return b.cfg.Notify(tx, n)
}
