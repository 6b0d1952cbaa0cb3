package broker

import (
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

var repository = func() cred.Principal {
	p := runner
	p.Claims = map[string]any{"ref": "main", "repository_id": "4711", "environment": "production"}
	return p
}()

func standing() Standing {
	return Standing{
		Rule: "prod", Target: "prod", Scopes: []string{"deploy"}, Reason: "release week",
		Claims:   map[string]string{"repository_id": "4711", "environment": "production"},
		NotAfter: noon.Add(7 * 24 * time.Hour),
	}
}

func TestStanding(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	s, err := w.Propose(ctx, w.signedIn(lead), standing())
	w.must(err)
	if s.InForce() || len(s.Approvals) != 1 {
		t.Fatalf("drafted: %+v", s)
	}
	g := w.request(repository) // a draft counts for nothing
	if g.State() != cred.GrantPending {
		t.Fatal("a draft let it through")
	}
	s, err = w.ReviewStanding(ctx, w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{Approve: true})
	w.must(err)
	if !s.InForce() {
		t.Fatal("it is not in force")
	}
	g, err = w.Exchange(ctx, as(repository), deploy)
	w.must(err)
	if g.State() != cred.GrantActive || len(g.Approvals) != 2 || g.Approvals[0].Standing != s.ID {
		t.Errorf("granted %s by %+v", g.State(), g.Approvals)
	}
	if e := w.lastOf(audit.ExchangeGranted); e.Decision.Exempt != "standing/"+s.ID || len(e.Approvals) != 2 || e.Approvals[1].Standing != s.ID {
		t.Errorf("recorded %+v %+v", e.Decision, e.Approvals)
	}
	all, err := w.ListStanding(ctx, auditor)
	w.must(err)
	if len(all) != 1 || all[0].Uses != 1 {
		t.Errorf("listed %+v", all)
	}

	outside := repository
	outside.Claims = map[string]any{"ref": "main", "repository_id": "4711", "environment": "staging"}
	numeric := repository
	numeric.Claims = map[string]any{"ref": "main", "repository_id": []any{"4711"}, "environment": "production"}
	s, err = w.Propose(ctx, w.signedIn(lead), Standing{
		Rule: "prod", Target: "prod", Scopes: []string{"deploy"}, Claims: map[string]string{"team": "null"}, NotAfter: noon.Add(time.Hour), Reason: "r",
	})
	w.must(err)
	_, err = w.ReviewStanding(ctx, w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{Approve: true})
	w.must(err)
	for name, p := range map[string]cred.Principal{"another claim": outside, "no claims": runner, "a list": numeric} {
		if g := w.request(p); g.State() != cred.GrantPending {
			t.Errorf("%s: it was let through", name)
		}
	}
	w.clock.advance(7 * 24 * time.Hour)
	w.request(repository)
	w.sweep()
	if n := w.count(store.Standing); n != 0 {
		t.Errorf("%d are left after their end", n)
	}
	if e := w.eventsOf(audit.StandingRevoked); len(e) != 2 || e[0].Detail["why"] != "its time ran out" {
		t.Errorf("recorded %+v", e)
	}
}

// No standing approval outlives its end in a grant, and none counts for one of those who agreed to it.
func TestStandingBounds(t *testing.T) {
	w := newWorld(t)
	s := standing()
	s.Claims = map[string]string{"role": "dev"}
	s.NotAfter = noon.Add(10 * time.Minute)
	s, err := w.Propose(t.Context(), w.signedIn(lead), s)
	w.must(err)
	_, err = w.ReviewStanding(t.Context(), w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{Approve: true})
	w.must(err)
	dev := person("dev")
	dev.Claims = map[string]any{"role": "dev"}
	g, err := w.Exchange(t.Context(), as(dev), deploy)
	w.must(err)
	if g.State() != cred.GrantActive || !g.NotAfter.Equal(s.NotAfter) {
		t.Errorf("granted %s until %s", g.State(), g.NotAfter)
	}
	own := lead
	own.Claims = map[string]any{"role": "dev"}
	w.request(own)
	acting := dev
	acting.Actor = &guard
	g, err = w.Exchange(t.Context(), as(acting), deploy)
	w.must(err)
	if g.State() != cred.GrantPending {
		t.Errorf("through somebody who agreed to it: %s", g.State())
	}
}

func TestStandingRefuses(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	late, endless, everybody, elsewhere := standing(), standing(), standing(), standing()
	late.NotAfter, endless.NotAfter, everybody.Claims, elsewhere.Rule = noon, noon.AddDate(1, 0, 0), nil, "ci"
	for name, s := range map[string]Standing{"late": late, "endless": endless, "everybody": everybody} {
		if _, err := w.Propose(ctx, w.signedIn(lead), s); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, by := range map[string]cred.Principal{"nobody of the rule's": nosy, "a job": runner} {
		if _, err := w.Propose(ctx, w.signedIn(by), standing()); cred.KindOf(err) != cred.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Propose(ctx, w.signedIn(lead), elsewhere); cred.KindOf(err) != cred.Denied {
		t.Errorf("a rule that asks nobody: %v", err)
	}
	_, err := w.Propose(ctx, as(lead), standing())
	refusedAs(t, err, cred.Denied, "SIGN_IN_TOO_OLD")
	if e := w.lastOf(audit.ReviewRefused); e.Error.Reason != "SIGN_IN_TOO_OLD" || e.Principal.Subject != "lead" {
		t.Errorf("recorded %+v", e)
	}

	s, err := w.Propose(ctx, w.signedIn(lead), standing())
	w.must(err)
	other := s
	other.Target = "db"
	_, err = w.ReviewStanding(ctx, w.signedIn(guard), s.ID, other.Digest(), cred.Verdict{Approve: true})
	refusedAs(t, err, cred.Conflict, "DIGEST_MISMATCH")
	_, err = w.ReviewStanding(ctx, w.signedIn(lead), s.ID, s.Digest(), cred.Verdict{Approve: true})
	refusedAs(t, err, cred.Conflict, "ALREADY_REVIEWED")
	for _, id := range []string{s.ID, "sa_none", ""} {
		_, err = w.ReviewStanding(ctx, w.signedIn(nosy), id, s.Digest(), cred.Verdict{Approve: true})
		refusedAs(t, err, cred.NotFound, "STANDING_UNKNOWN")
		_, err = w.RevokeStanding(ctx, nosy, id, "")
		refusedAs(t, err, cred.NotFound, "STANDING_UNKNOWN")
	}
	_, err = w.RevokeStanding(ctx, auditor, s.ID, "")
	refusedAs(t, err, cred.NotFound, "STANDING_UNKNOWN")
	_, err = w.ReviewStanding(ctx, w.signedIn(guard), s.ID, s.Digest(), cred.Verdict{})
	w.must(err)
	if n := w.count(store.Standing); n != 0 {
		t.Errorf("%d are left after a refusal", n)
	}
	s, err = w.Propose(ctx, w.signedIn(lead), standing())
	w.must(err)
	_, err = w.RevokeStanding(ctx, security, s.ID, "over")
	w.must(err)
	if e := w.lastOf(audit.StandingRevoked); e.Detail["why"] != "over" {
		t.Errorf("recorded %+v", e)
	}
}
