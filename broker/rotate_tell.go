package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// event is the entry of an outcome of a step.
func (e ending) event(ctx context.Context, c claim, a answer, outcome string, now time.Time) audit.Event {
	more := maps.Clone(a.detail)
	if more == nil {
		more = map[string]any{}
	}
	if c.Attempt > 1 {
		more["attempts"] = c.Attempt
	}
	if a.err != nil {
		more["why"] = cred.PublicText(a.err)
	}
	if len(a.findings) > 0 && outcome != outcomeStuck {
		more["findings"] = detailOf(a.findings)
	}
	if e.next.Receipt != "" {
		sum := sha256.Sum256([]byte(e.next.Receipt))
		more["receipt_sha256"] = hex.EncodeToString(sum[:])
	}
	event := rotationEvent(ctx, c.root, e.next, string(c.Step()), outcome, now, more)
	if a.err != nil && outcome != outcomeWaits { // to wait is no failure
		event.Error = audit.ErrorOf(a.err)
	}
	return event
}

func detailOf(findings []cred.Finding) []any {
	var all []any
	for _, f := range findings {
		one := map[string]any{"name": f.Name, "ok": f.OK, "text": f.Text}
		if f.Open {
			one["open"] = true // nobody could look, so "ok" proves nothing
		}
		all = append(all, one)
	}
	return all
}

// tell writes to our own log what did not go as it should.
func (b *Broker) tell(ctx context.Context, c claim, a answer, end ending) {
	log := b.cfg.Logger.With("rotation", c.ID, "root", c.Rotation.Root, "step", c.Step(), "attempt", c.Attempt)
	switch {
	case end.alarm != "":
		log.ErrorContext(ctx, "a rotation does not get on; somebody has to look", "why", end.alarm, "error", a.err)
	case end.next.State() == cred.RotationFailed:
		log.ErrorContext(ctx, "a rotation has failed; the old root is in use", "why", end.next.Why, "error", a.err)
	case end.ask != "":
		log.InfoContext(ctx, "a rotation waits for a person", "what", end.ask)
	case a.err != nil && kindOfAct(a.err) != cred.Pending:
		log.WarnContext(ctx, "a step of a rotation did not succeed", "error", a.err)
	case end.next.State() == cred.RotationDone:
		log.InfoContext(ctx, "a root was rotated")
	}
}

// tellWhenAwaited writes to our own log, should ctx end before the returned function is called, that the
// broker's stop waits for a step.
func (b *Broker) tellWhenAwaited(ctx context.Context, c claim) (over func()) {
	forget := context.AfterFunc(ctx, func() {
		b.cfg.Logger.InfoContext(ctx, "stopping: a step of a rotation is under way, and is waited for",
			"rotation", c.ID, "root", c.Rotation.Root, "step", c.Step(), "until", c.until)
	})
	return func() { forget() }
}

// notifyRotation has people told of an alarm, of what waits for them, and of the end.
func (b *Broker) notifyRotation(tx store.Tx, c claim, end ending, now time.Time) error {
	if end.ask != "" {
		text := "of the root " + c.Rotation.Root
		if !c.AskedAt.IsZero() {
			text += " still"
		}
		text += " waits for a person at the step " + string(c.Step()) + ": " + end.ask + ". 'daypass rotations show " + string(c.ID) + "' tells where it stands"
		if err := b.notifyOf(tx, notice.RotationWaits, c, text, now); err != nil {
			return err
		}
	}
	if end.alarm != "" {
		text := "does not get on at the step " + string(c.Step()) + ": " + end.alarm + ". It is tried again; 'daypass rotations show " + string(c.ID) + "' tells where it stands"
		if err := b.notifyOf(tx, notice.RotationStuck, c, text, now); err != nil {
			return err
		}
	}
	switch end.next.State() {
	case cred.RotationDone:
		return b.notifyOf(tx, notice.RotationDone, c, "is done: the new root is in use, and the old one is gone", now)
	case cred.RotationFailed:
		return b.notifyOf(tx, notice.RotationFailed, c, "has failed, and the old root is in use: "+end.next.Why, now)
	}
	return nil
}

func (b *Broker) notifyOf(tx store.Tx, kind notice.Kind, c claim, text string, now time.Time) error {
	if b.cfg.Notify == nil {
		return nil
	}
	var groups []string
	if c.root.Demand != nil {
		groups = c.root.Demand.Groups()
	}
	id := string(c.ID)
	switch kind {
	case notice.RotationStuck:
		id += ":" + string(c.Step()) // each step may get stuck
	case notice.AlarmRaised:
		id += ":" + string(c.Step()) + ":" + strconv.FormatInt(now.UnixMilli(), 10) // each of them is another
	}
	return b.cfg.Notify(tx, notice.Notice{
		ID: noticeID(id, kind, now), Kind: kind, At: now, Requester: nameOf(c.By), Target: rotationTarget + c.Rotation.Root,
		Reason: c.Reason, Groups: groups, Text: "The rotation " + string(c.ID) + " " + text,
	})
}
