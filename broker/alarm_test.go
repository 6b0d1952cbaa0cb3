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
