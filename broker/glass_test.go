package broker

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

func ruleNamed(name string) func(policy.Rule) bool {
	return func(r policy.Rule) bool { return r.Name == name }
}

func (w *world) setPolicy(src policy.Source) {
	w.t.Helper()
	set, problems := policy.Compile(src)
	if problems != nil {
		w.t.Fatalf("%v", problems)
	}
	w.must(w.SetPolicy(context.Background(), set))
}

// Breaking the glass needs a reason, is capped and told, and a review is owed until somebody does it.
func TestBreakGlass(t *testing.T) {
	w := newWorld(t)
	var told []notice.Notice
	w.cfg.Notify = func(_ store.Tx, n notice.Notice) error { told = append(told, n); return nil }
	ctx := t.Context()
	_, err := w.Exchange(ctx, as(lead), cred.Request{Target: "glass"})
	refusedAs(t, err, cred.Denied, policy.ReasonReasonRequired)
	g, err := w.Exchange(ctx, as(lead), cred.Request{Target: "glass", Reason: "the site is down"})
	w.must(err)
	if g.State() != cred.GrantActive || !g.NotAfter.Equal(noon.Add(10*time.Minute)) || g.Review == nil || !g.Review.Due.Equal(noon.Add(24*time.Hour)) {
		t.Fatalf("granted %s until %s, review %+v", g.State(), g.NotAfter, g.Review)
	}
	if e := w.lastOf(audit.ExchangeGranted); e.Decision.Exempt != "break_glass" {
		t.Errorf("recorded %+v", e.Decision)
	}
	if len(told) != 1 || told[0].Kind != notice.BreakGlassUsed || !slices.Contains(told[0].Groups, "secteam") || told[0].Reason != "the site is down" {
		t.Fatalf("told %+v", told)
	}
	w.clock.advance(25 * time.Hour)
	for range 3 {
		w.sweep()
	}
	if n := len(w.eventsOf(audit.ReviewOverdue)); n != 1 || len(told) != 2 || told[1].Kind != notice.ReviewOverdue {
		t.Errorf("%d times overdue, told %d times", n, len(told))
	}
	open, err := w.ListRequests(ctx, guard)
	w.must(err)
	if len(open) != 1 || open[0].Grant.ID != g.ID || open[0].Grant.State() != cred.GrantExpired {
		t.Fatalf("open: %+v", open)
	}
	for _, test := range []struct {
		who     cred.Principal
		approve bool
		kind    cred.Kind
		reason  string
	}{
		{lead, true, cred.Denied, "OWN_REQUEST"},
		{guard, false, cred.Invalid, "NOT_A_REFUSAL"},
		{auditor, true, cred.Denied, "NOT_AN_APPROVER"},
		{nosy, true, cred.NotFound, "GRANT_UNKNOWN"},
	} {
		_, err := w.review(test.who, g, test.approve)
		refusedAs(t, err, test.kind, test.reason)
	}
	if _, err := w.review(guard, g, true); err != nil {
		t.Fatal(err)
	}
	if e := w.lastOf(audit.ReviewSignedOff); e.Principal.Subject != "guard" || e.Grant != g.ID {
		t.Errorf("recorded %+v", e)
	}
	if open, err := w.ListRequests(ctx, guard); err != nil || len(open) != 0 {
		t.Errorf("still open: %d, %v", len(open), err)
	}
	_, err = w.review(both, g, true)
	refusedAs(t, err, cred.Conflict, "NO_REVIEW_OWED")
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	g := w.request(runner)
	for _, who := range []cred.Principal{lead, guard} {
		_, err := w.review(who, g, true)
		w.must(err)
	}
	g, err := w.Claim(ctx, as(runner), g.ID, deploy)
	w.must(err)
	w.clock.advance(20 * time.Minute)
	_, err = w.Renew(ctx, as(neighbour), g.ID, 0)
	refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
	next, err := w.Renew(ctx, as(runner), g.ID, 0)
	w.must(err)
	if next.ID == g.ID || next.RenewedFrom != g.ID || next.State() != cred.GrantActive || !next.NotAfter.Equal(w.now().Add(30*time.Minute)) || len(next.Approvals) != 2 {
		t.Errorf("renewed: %+v", next)
	}
	if e := w.lastOf(audit.ExchangeGranted); e.Detail["renews"] != string(g.ID) || len(e.Approvals) != 2 {
		t.Errorf("recorded %+v", e)
	}
	for _, id := range []cred.GrantID{g.ID, next.ID} {
		_, err := w.Renew(ctx, as(runner), id, 0)
		refusedAs(t, err, cred.Denied, "NO_RENEWAL_LEFT")
	}
	old, _, err := w.GetGrant(ctx, runner, g.ID)
	if err != nil || !old.NotAfter.Equal(g.NotAfter) {
		t.Errorf("the first grant ends %s, %v", old.NotAfter, err)
	}
	w.clock.advance(31 * time.Minute)
	_, err = w.Renew(ctx, as(runner), next.ID, 0)
	refusedAs(t, err, cred.Expired, "GRANT_EXPIRED")
}

// Another rule set decides from the moment that it is in force, and its text is kept.
func TestSetPolicy(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, before, err := w.Policies(ctx, auditor)
	w.must(err)
	src := rules()
	src.Rules = src.Rules[1:]
	w.setPolicy(src)
	_, err = w.Exchange(ctx, as(runner), cred.Request{Target: "db"})
	refusedAs(t, err, cred.NotFound, policy.ReasonTargetUnknown)
	all, current, err := w.Policies(ctx, auditor)
	w.must(err)
	if len(all) != 2 || current == before || !slices.Contains(all, before) {
		t.Errorf("kept %v, in force %s", all, current)
	}
	if loaded := w.eventsOf(audit.PolicyLoaded); len(loaded) != 2 || loaded[1].Decision.PolicyHash != current {
		t.Errorf("recorded %+v", loaded)
	}
	for _, hash := range []string{before, current} {
		_, text, err := w.PolicyText(ctx, auditor, hash)
		w.must(err)
		set, problems := policy.Parse("policy", text)
		if problems != nil || set.Hash() != hash {
			t.Errorf("the text of %s does not read back: %v", hash, problems)
		}
	}
	if _, text, err := w.PolicyText(ctx, security, ""); err != nil || len(text) == 0 {
		t.Error(err)
	}
	_, _, err = w.PolicyText(ctx, auditor, "00")
	refusedAs(t, err, cred.NotFound, "POLICY_UNKNOWN")
	_, _, err = w.PolicyText(ctx, runner, before)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	_, _, err = w.Policies(ctx, runner)
	refusedAs(t, err, cred.Denied, "ROLE_MISSING")

	w.must(w.RefusePolicy(ctx, "daypass.yaml:3:4: there is no target"))
	if e := w.lastOf(audit.PolicyRefused); e.Decision.PolicyHash != current || e.Detail["problems"] != "daypass.yaml:3:4: there is no target" {
		t.Errorf("recorded %+v", e)
	}
	w.store.plan(notDone)
	set, _ := policy.Compile(rules())
	refusedAs(t, w.SetPolicy(ctx, set), cred.Unavailable, "NOT_RECORDED")
	if _, now, _ := w.Policies(ctx, auditor); now != current {
		t.Error("a rule set that is not on record is in force")
	}
}

// A caller learns of its rules what it may know, an auditor everything.
func TestExplain(t *testing.T) {
	w := newWorld(t)
	elsewhere := runner
	elsewhere.Claims = map[string]any{"ref": "dev"}
	d := w.Explain(elsewhere, cred.Request{Target: "hidden"})
	if d.Allowed || len(d.Rules) != 0 {
		t.Errorf("of a target that it may not know of: %+v", d.Rules)
	}
	d = w.Explain(elsewhere, cred.Request{Target: "db"})
	if d.Allowed || len(d.Rules) != 1 || d.Rules[0].Rule != "ci" {
		t.Errorf("of its own: %+v", d.Rules)
	}
	if d = w.Explain(runner, deploy); !d.Allowed || d.Demand == nil {
		t.Errorf("of what needs approval: %+v", d)
	}
	if d = w.Explain(auditor, cred.Request{Target: "hidden"}); d.Allowed || len(d.Rules) != 1 {
		t.Errorf("an auditor: %+v", d.Rules)
	}
}

// A grant that was revoked stays revoked for proxies, whoever signs its review off.
func TestSignedOffStaysRevoked(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	g, err := w.Exchange(ctx, as(lead), cred.Request{Target: "glass", Reason: "the site is down"})
	w.must(err)
	_, _, err = w.Revoke(ctx, security, g.ID, "enough")
	w.must(err)
	_, err = w.review(guard, g, true)
	w.must(err)
	revoked, err := w.liveRevocations(ctx)
	w.must(err)
	if len(revoked) != 1 || revoked[0].Grant != g.ID {
		t.Errorf("proxies are told of %v", revoked)
	}
	w.clock.advance(time.Hour)
	w.sweep()
	if revoked, err = w.liveRevocations(ctx); err != nil || len(revoked) != 0 {
		t.Errorf("after its end: %v, %v", revoked, err)
	}
}

// What needed no approval when it was given, or another one, is not renewed past the approval that it
// needs now.
func TestRenewNeedsTheApprovalsOfNow(t *testing.T) {
	renew := func(t *testing.T, prepare func(w *world) cred.Grant, change func(*policy.Rule), reason string) {
		w := newWorld(t)
		g := prepare(w)
		if g.State() != cred.GrantActive || g.Renewals == 0 {
			t.Fatalf("granted %s with %d renewals", g.State(), g.Renewals)
		}
		src := rules()
		change(&src.Rules[slices.IndexFunc(src.Rules, ruleNamed("prod"))])
		w.setPolicy(src)
		_, err := w.Renew(t.Context(), as(repository), g.ID, 0)
		refusedAs(t, err, cred.Denied, reason)
		if n := len(w.eventsOf(audit.ExchangeGranted)); n != 1 {
			t.Errorf("granted %d times", n)
		}
	}
	approved := func(w *world) cred.Grant {
		g := w.request(repository)
		for _, who := range []cred.Principal{lead, guard} {
			_, err := w.review(who, g, true)
			w.must(err)
		}
		g, err := w.Claim(context.Background(), as(repository), g.ID, deploy)
		w.must(err)
		return g
	}
	t.Run("given without", func(t *testing.T) {
		renew(t, func(w *world) cred.Grant {
			src := rules()
			src.Rules[slices.IndexFunc(src.Rules, ruleNamed("prod"))].Approval = nil
			w.setPolicy(src)
			g, err := w.Exchange(context.Background(), as(repository), deploy)
			w.must(err)
			return g
		}, func(*policy.Rule) {}, "APPROVAL_NEEDED")
	})
	t.Run("given with fewer", func(t *testing.T) {
		renew(t, approved, func(r *policy.Rule) { r.Approval.AllOf[0].Count = 2 }, "APPROVAL_NEEDED")
	})
	t.Run("through a standing approval", func(t *testing.T) {
		renew(t, func(w *world) cred.Grant {
			s, err := w.Propose(context.Background(), w.signedIn(lead), standing())
			w.must(err)
			_, err = w.ReviewStanding(context.Background(), w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{Approve: true})
			w.must(err)
			g, err := w.Exchange(context.Background(), as(repository), deploy)
			w.must(err)
			return g
		}, func(*policy.Rule) {}, "NO_RENEWAL_LEFT")
	})
}
