package broker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// watched is an issuer whose answers somebody on the way has seen.
type watched struct{ fakeReserver }

func (i watched) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	if _, _, err := i.fakeReserver.Issue(ctx, spec); err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	return cred.Credential{}, cred.Lease{}, &cred.Error{
		Kind: cred.Unavailable, Op: "fake.issue", Reason: issuer.ReasonUnwrapFailed, Public: "somebody has seen it", Err: errors.New("inner words"),
	}
}

// An alarm is recorded and told once, whatever becomes of the lease, and the caller gets nothing.
func TestAlarm(t *testing.T) {
	w := newWorld(t)
	var told []notice.Notice
	w.cfg.Notify = func(_ store.Tx, n notice.Notice) error { told = append(told, n); return nil }
	g, tok := w.grant("db")
	good := w.cfg.Issuers["vault"].(fakeReserver)
	w.cfg.Issuers["vault"] = watched{good}
	_, err := w.redeem("db", tok)
	refusedAs(t, err, cred.Unavailable, issuer.ReasonUnwrapFailed)
	l := w.lease(g.ID)
	w.wantState(l, cred.LeaseRevoked)
	w.wantLive("vault", 0)
	raised := w.eventsOf(audit.AlarmRaised)
	if len(raised) != 1 {
		t.Fatalf("%d alarms are on record", len(raised))
	}
	e := raised[0]
	if e.Grant != g.ID || e.Lease.ID != l.ID || e.Principal.Subject != runner.Subject || e.Error.Reason != issuer.ReasonUnwrapFailed ||
		e.Detail["reason"] != issuer.ReasonUnwrapFailed || e.Detail["issuer"] != "vault" || e.Detail["what"] != "somebody has seen it" {
		t.Errorf("recorded %+v, detail %v", e, e.Detail)
	}
	if len(told) != 1 || told[0].Kind != notice.AlarmRaised || told[0].Grant != g.ID || told[0].Target != "db" ||
		!strings.Contains(told[0].Text, "UNWRAP_FAILED at the issuer vault: somebody has seen it") || strings.Contains(told[0].Text, "inner words") {
		t.Errorf("told %+v", told)
	}
	w.check()

	w.cfg.Issuers["vault"] = good
	w.sources["vault"].plan("issue", notDone)
	if _, err := w.redeem("db", tok); err == nil {
		t.Fatal("it was to fail")
	}
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 1 || len(told) != 1 {
		t.Errorf("an ordinary failure raised an alarm: %d on record, %d told", n, len(told))
	}
}

// Where an alarm can't be recorded, the broker's own log has it and the credential is taken back all the
// same.
func TestAlarmThatCanNotBeRecorded(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	w.cfg.Notify = func(store.Tx, notice.Notice) error { return errors.New("the queue is full") }
	var own strings.Builder
	w.cfg.Logger = slog.New(slog.NewTextHandler(&own, nil))
	w.cfg.Issuers["vault"] = watched{w.cfg.Issuers["vault"].(fakeReserver)}
	_, err := w.redeem("db", tok)
	refusedAs(t, err, cred.Unavailable, issuer.ReasonUnwrapFailed)
	if !strings.Contains(own.String(), "an alarm could not be recorded") || !strings.Contains(own.String(), "level=ERROR") {
		t.Errorf("the broker's log has %q", own.String())
	}
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
	w.wantLive("vault", 0)
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 0 {
		t.Errorf("%d alarms on record whose notice was not queued", n)
	}
}

// interceptedRoot is a root whose acts' answers somebody on the way has seen, as often as planned.
type interceptedRoot struct {
	*fakeRoot
	seen map[string]int // by act
}

func (r interceptedRoot) look(act string, err error) error {
	if r.seen[act]--; err != nil || r.seen[act] < 0 {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "fake." + act, Reason: issuer.ReasonUnwrapFailed, Public: "somebody has seen it", Err: errors.New("inner words"),
	}
}

func (r interceptedRoot) Check(ctx context.Context, rot issuer.Rotation) ([]cred.Finding, error) {
	findings, err := r.fakeRoot.Check(ctx, rot)
	return findings, r.look("check", err)
}

func (r interceptedRoot) Prepare(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	rot, err := r.fakeRoot.Prepare(ctx, rot)
	return rot, r.look("prepare", err)
}

func (r interceptedRoot) Verify(ctx context.Context, rot issuer.Rotation) error {
	return r.look("verify", r.fakeRoot.Verify(ctx, rot))
}

// watchedRotation is a world whose root's answers somebody sees.
func watchedRotation(t *testing.T, seen map[string]int) *rotating {
	return newRotating(t, func(r *Root) { r.Rotator = interceptedRoot{r.Rotator.(*fakeRoot), seen} })
}

// A root that somebody may have seen on its way is an alarm though the rotation makes another one and ends
// well: once for each step, however often that is tried again and ends the same.
func TestAlarmInRotation(t *testing.T) {
	w := watchedRotation(t, map[string]int{"check": 1, "prepare": 3, "verify": 1})
	rot := w.finish(w.begin().ID)
	w.wantEnd(rot, cred.RotationDone)
	if n := w.root.count("prepare"); n != 4 {
		t.Errorf("it was prepared %d times", n)
	}
	raised, told := w.eventsOf(audit.AlarmRaised), w.told(notice.AlarmRaised)
	if len(raised) != 3 || len(told) != 3 {
		t.Fatalf("%d alarms are on record and %d were told, want one for each of 3 steps", len(raised), len(told))
	}
	for n, step := range []cred.RotationStep{cred.StepCheck, cred.StepPrepare, cred.StepVerify} {
		e := raised[n]
		if e.Rotation.ID != string(rot.ID) || e.Rotation.Step != string(step) || e.Rotation.Issuer != "vault" || e.Principal.Subject != security.Subject ||
			e.Error.Reason != issuer.ReasonUnwrapFailed || e.Detail["reason"] != issuer.ReasonUnwrapFailed || e.Detail["root"] != "db-root" || e.Detail["what"] != "somebody has seen it" {
			t.Errorf("recorded %+v, detail %v", e, e.Detail)
		}
	}
	for _, n := range told {
		if n.Target != "rotation:db-root" || !strings.Contains(n.Text, string(rot.ID)) || !strings.Contains(n.Text, ": somebody has seen it") || strings.Contains(n.Text, "inner words") {
			t.Errorf("told %+v", n)
		}
	}
	w.wantTold(notice.RotationStuck, 0)
}

// What is seen again after something else went wrong is another alarm.
func TestAlarmInRotationComesBack(t *testing.T) {
	seen := map[string]int{"prepare": 1}
	w := watchedRotation(t, seen)
	w.root.plan("prepare", works, notDone)
	id := w.begin().ID
	w.advance()
	w.clock.advance(backoff(1))
	w.advance()
	seen["prepare"] = 1
	w.wantEnd(w.finish(id), cred.RotationDone)
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 2 || len(w.told(notice.AlarmRaised)) != 2 {
		t.Errorf("%d alarms are on record, %d were told", n, len(w.told(notice.AlarmRaised)))
	}
}

// A dry run raises it like a rotation.
func TestAlarmInDryRun(t *testing.T) {
	w := watchedRotation(t, map[string]int{"check": 1})
	_, _, err := w.CheckRotation(t.Context(), as(security), "db-root")
	refusedAs(t, err, cred.Unavailable, issuer.ReasonUnwrapFailed)
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 1 || len(w.told(notice.AlarmRaised)) != 1 {
		t.Errorf("%d alarms are on record, %d were told", n, len(w.told(notice.AlarmRaised)))
	}
	if last := w.lastOf(audit.RotationStep); last.Detail["dry_run"] != true || last.Error.Reason != issuer.ReasonUnwrapFailed {
		t.Errorf("the outcome is recorded as %+v", last)
	}
}

// An alarm of a step that somebody else has taken over meanwhile is not lost with the step's outcome.
func TestAlarmOfAStepThatWasTaken(t *testing.T) {
	w := watchedRotation(t, map[string]int{"check": 1})
	id := w.begin().ID
	c, ok, err := w.claimStep(t.Context(), id)
	if err != nil || !ok {
		t.Fatalf("claim: %v, %v", ok, err)
	}
	late := w.act(t.Context(), c)
	w.clock.advance(w.cfg.RotateTimeout)
	w.wantEnd(w.finish(id), cred.RotationDone)
	if on, err := w.concludeStep(t.Context(), c, late); on || err != nil {
		t.Errorf("the late outcome: %v, %v", on, err)
	}
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 1 || len(w.told(notice.AlarmRaised)) != 1 {
		t.Errorf("%d alarms are on record, %d were told", n, len(w.told(notice.AlarmRaised)))
	}
}

// Where the alarm of a step can't be recorded, the broker's own log has it.
func TestAlarmInRotationThatCanNotBeRecorded(t *testing.T) {
	w := watchedRotation(t, map[string]int{"check": 1})
	w.Broker.cfg.Notify = func(store.Tx, notice.Notice) error { return errors.New("the queue is full") }
	w.begin()
	w.advance()
	if out := w.log.String(); !strings.Contains(out, "an alarm could not be recorded") || !strings.Contains(out, "level=ERROR") {
		t.Errorf("the broker's log has %q", out)
	}
	if n := len(w.eventsOf(audit.AlarmRaised)); n != 0 {
		t.Errorf("%d alarms on record whose notice was not queued", n)
	}
}
