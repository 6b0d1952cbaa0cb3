package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// The people of approvals.
var (
	lead   = person("lead", "leads")
	second = person("second", "leads")
	guard  = person("guard", "secteam")
	both   = person("both", "leads", "secteam")
)

// signedIn is a caller who signed in just now.
func (w *world) signedIn(p cred.Principal) Caller { return Caller{Principal: p, SignedIn: w.now()} }

var deploy = cred.Request{Target: "prod", Scopes: []string{"deploy"}, Reason: "release"}

// request asks for approval.
func (w *world) request(who cred.Principal) cred.Grant {
	w.t.Helper()
	g, err := w.Exchange(context.Background(), as(who), deploy)
	w.must(err)
	if g.State() != cred.GrantPending {
		w.t.Fatalf("the request is %s", g.State())
	}
	return g
}

func (w *world) review(who cred.Principal, g cred.Grant, approve bool) (cred.Grant, error) {
	return w.Review(context.Background(), w.signedIn(who), g.ID, g.Digest, cred.Verdict{Approve: approve, Comment: "seen"})
}

func TestApproval(t *testing.T) {
	w := newWorld(t)
	var told []notice.Kind
	w.cfg.Notify = func(_ store.Tx, n notice.Notice) error { told = append(told, n.Kind); return nil }
	ctx := t.Context()
	g := w.request(runner)
	if e := w.lastOf(audit.ExchangePending); e.Decision.Demand == nil || e.Decision.Rule != "prod" || e.Request.Digest != g.Digest.String() {
		t.Errorf("recorded %+v", e.Decision)
	}
	if _, err := w.GrantToken(g); cred.KindOf(err) != cred.Pending {
		t.Errorf("a token for a request that waits: %v", err)
	}
	_, err := w.RedeemGrant(ctx, runner, g.ID)
	refusedAs(t, err, cred.Pending, "GRANT_PENDING")

	g, err = w.review(lead, g, true)
	w.must(err)
	if g.State() != cred.GrantPending {
		t.Errorf("one of two has agreed and it is %s", g.State())
	}
	_, err = w.review(second, g, true) // another lead is no member of the security team
	w.must(err)
	g, err = w.review(guard, g, true)
	w.must(err)
	if g.State() != cred.GrantApproved {
		t.Fatalf("all have agreed and it is %s", g.State())
	}
	w.clock.advance(10 * time.Minute)
	active, err := w.Claim(ctx, as(runner), g.ID, deploy)
	w.must(err)
	if active.State() != cred.GrantActive || !active.NotAfter.Equal(w.now().Add(30*time.Minute)) {
		t.Errorf("claimed: %s until %s", active.State(), active.NotAfter)
	}
	if e := w.lastOf(audit.ExchangeGranted); len(e.Approvals) != 3 || e.Grant != g.ID {
		t.Errorf("recorded %+v", e.Approvals)
	}
	again, err := w.Claim(ctx, as(runner), g.ID, deploy) // the answer was lost
	w.must(err)
	if again.Rev != active.Rev {
		t.Error("a second claim changed the grant")
	}
	if _, err := w.RedeemGrant(ctx, runner, g.ID); err != nil {
		t.Error(err)
	}
	if want := []notice.Kind{notice.RequestPending, notice.RequestApproved}; !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	open, err := w.ListRequests(ctx, lead)
	w.must(err)
	if len(open) != 0 {
		t.Errorf("%d still wait", len(open))
	}
}

// A retry finds the request, and claims it once it is approved.
func TestApprovalByRetry(t *testing.T) {
	w := newWorld(t)
	want := deploy
	want.IdempotencyKey = "k"
	first, err := w.Exchange(t.Context(), as(runner), want)
	w.must(err)
	again, err := w.Exchange(t.Context(), as(runner), want)
	w.must(err)
	if again.ID != first.ID || again.State() != cred.GrantPending {
		t.Errorf("a retry made %s, %s", again.ID, again.State())
	}
	for _, who := range []cred.Principal{lead, guard} {
		_, err := w.review(who, first, true)
		w.must(err)
	}
	active, err := w.Exchange(t.Context(), as(runner), want)
	w.must(err)
	if active.ID != first.ID || active.State() != cred.GrantActive {
		t.Errorf("after its approval: %s, %s", active.ID, active.State())
	}
}

func TestReviewRefuses(t *testing.T) {
	tired := Caller{Principal: lead, SignedIn: noon.Add(-3 * time.Hour)}
	agentOf := func(p cred.Principal) cred.Principal {
		agent := person("bot")
		agent.Kind = cred.KindAgent
		p.Actor = &agent
		return p
	}
	for _, test := range []struct {
		name   string
		holder cred.Principal
		by     Caller
		digest bool // another one
		kind   cred.Kind
		reason string
	}{
		{name: "the requester", holder: lead, by: as(lead), kind: cred.Denied, reason: "OWN_REQUEST"},
		{name: "whom the agent acts for", holder: agentOf(lead), by: as(lead), kind: cred.Denied, reason: "OWN_REQUEST"},
		{name: "the agent", holder: agentOf(lead), by: as(person("bot", "leads")), kind: cred.Denied, reason: "OWN_REQUEST"},
		{name: "an administrator", holder: security, by: as(person("guard", "security", "secteam")), kind: cred.Denied, reason: "OWN_REQUEST"},
		{name: "another digest", holder: runner, by: as(lead), digest: true, kind: cred.Conflict, reason: "DIGEST_MISMATCH"},
		{name: "a sign-in of yesterday", holder: runner, by: tired, kind: cred.Denied, reason: "SIGN_IN_TOO_OLD"},
		{name: "an unknown sign-in", holder: runner, by: as(lead), kind: cred.Denied, reason: "SIGN_IN_TOO_OLD"},
		{name: "an agent", holder: runner, by: as(agentOf(lead)), kind: cred.Denied, reason: "NOT_A_PERSON"},
		{name: "who may look", holder: runner, by: as(auditor), kind: cred.Denied, reason: "NOT_AN_APPROVER"},
		{name: "a stranger", holder: runner, by: as(nosy), kind: cred.NotFound, reason: "GRANT_UNKNOWN"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			g := w.request(test.holder)
			if test.by.SignedIn.IsZero() && test.reason != "SIGN_IN_TOO_OLD" {
				test.by.SignedIn = noon
			}
			if test.digest {
				g.Digest[0]++
			}
			_, err := w.Review(t.Context(), test.by, g.ID, g.Digest, cred.Verdict{Approve: true})
			refusedAs(t, err, test.kind, test.reason)
			if test.kind != cred.NotFound {
				if e := w.lastOf(audit.ReviewRefused); e.Error.Reason != test.reason || e.Principal.Subject != test.by.Subject {
					t.Errorf("recorded %+v", e)
				}
			}
			if got, err := w.GetRequest(t.Context(), auditor, g.ID); err != nil || len(got.Grant.Approvals) != 0 {
				t.Errorf("%d verdicts count, %v", len(got.Grant.Approvals), err)
			}
		})
	}
}

// To who is not asked, a request that exists and one that does not are the same.
func TestRequestsOfOthersDoNotExist(t *testing.T) {
	w := newWorld(t)
	g := w.request(runner)
	for _, id := range []cred.GrantID{g.ID, cred.NewGrantID(noon), "", "no ID"} {
		_, err := w.Review(t.Context(), w.signedIn(nosy), id, g.Digest, cred.Verdict{Approve: true})
		first := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		_, err = w.GetRequest(t.Context(), nosy, id)
		second := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		_, err = w.Claim(t.Context(), as(neighbour), id, deploy)
		third := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		err = w.Wait(t.Context(), as(neighbour), id, func(Waited) error { return nil })
		fourth := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		if first.Public != second.Public || second.Public != third.Public || third.Public != fourth.Public {
			t.Error("the answers differ")
		}
	}
	all, err := w.ListRequests(t.Context(), nosy)
	if err != nil || len(all) != 0 {
		t.Errorf("%d requests, %v", len(all), err)
	}
	for who, groups := range map[string][]string{"lead": {"leads"}, "both": {"leads", "secteam"}, "auditor": {}} {
		p := map[string]cred.Principal{"lead": lead, "both": both, "auditor": auditor}[who]
		all, err := w.ListRequests(t.Context(), p)
		w.must(err)
		if len(all) != 1 || !slices.Equal(all[0].Groups, groups) {
			t.Errorf("%s sees %+v", who, all)
		}
	}
}

func TestRefusalEndsARequest(t *testing.T) {
	w := newWorld(t)
	g := w.request(runner)
	g, err := w.review(lead, g, true)
	w.must(err)
	g, err = w.review(guard, g, false)
	w.must(err)
	if g.State() != cred.GrantDenied {
		t.Errorf("it is %s", g.State())
	}
	_, err = w.review(both, g, true)
	refusedAs(t, err, cred.Conflict, "NOT_PENDING")
	_, err = w.Claim(t.Context(), as(runner), g.ID, deploy)
	refusedAs(t, err, cred.Denied, "REQUEST_DENIED")
}

func TestClaimRefuses(t *testing.T) {
	other := runner
	other.Claims = map[string]any{"ref": "main", "repository_id": "4711"}
	more := deploy
	more.TTL = 29 * time.Minute
	for _, test := range []struct {
		name   string
		who    cred.Principal
		want   cred.Request
		after  time.Duration
		kind   cred.Kind
		reason string
	}{
		{"another request", runner, more, 0, cred.Conflict, "DIGEST_MISMATCH"},
		{"other immutable claims", other, deploy, 0, cred.Denied, "NOT_THE_REQUESTER"},
		{"at the deadline", runner, deploy, time.Hour, cred.Expired, "REQUEST_EXPIRED"},
		{"too late", runner, deploy, 25 * time.Hour, cred.Expired, "REQUEST_EXPIRED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			g := w.request(runner)
			for _, who := range []cred.Principal{lead, guard} {
				_, err := w.review(who, g, true)
				w.must(err)
			}
			w.clock.advance(test.after)
			_, err := w.Claim(t.Context(), as(test.who), g.ID, test.want)
			refusedAs(t, err, test.kind, test.reason)
			if len(w.eventsOf(audit.ExchangeGranted)) != 0 {
				t.Error("it was granted")
			}
			w.sweep()
			_, err = w.Claim(t.Context(), as(runner), g.ID, deploy)
			if late := test.after > 0; late != (cred.KindOf(err) == cred.Expired && err != nil) {
				t.Errorf("after the sweep: %v", err)
			}
		})
	}
}

// Rules that changed meanwhile decide: one that asks for more, or allows no more, gives nothing.
func TestClaimUnderAnotherPolicy(t *testing.T) {
	for name, change := range map[string]struct {
		ask    int
		kind   cred.Kind
		reason string
	}{
		"asks for more": {2, cred.Conflict, "POLICY_CHANGED"},
		"is gone":       {0, cred.NotFound, "TARGET_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g := w.request(runner)
			for _, who := range []cred.Principal{lead, guard} {
				_, err := w.review(who, g, true)
				w.must(err)
			}
			src := rules()
			i := slices.IndexFunc(src.Rules, ruleNamed("prod"))
			if change.ask == 0 {
				src.Rules = slices.Delete(src.Rules, i, i+1)
			} else {
				src.Rules[i].Approval.AllOf[0].Count = change.ask
			}
			w.setPolicy(src)
			_, err := w.Claim(t.Context(), as(runner), g.ID, deploy)
			refusedAs(t, err, change.kind, change.reason)
		})
	}
}

func TestWait(t *testing.T) {
	w := newWorld(t)
	g := w.request(runner)
	states := make(chan Waited, 10)
	done := make(chan error, 1)
	go func() {
		done <- w.Wait(context.Background(), as(runner), g.ID, func(s Waited) error { states <- s; return nil })
	}()
	if s := <-states; s.Grant.State() != cred.GrantPending || s.Asked != "1 of leads and 1 of secteam" || s.Approvals != 0 {
		t.Errorf("at first %+v", s)
	}
	_, err := w.review(lead, g, true)
	w.must(err)
	if s := <-states; s.Approvals != 1 || s.Grant.State() != cred.GrantPending {
		t.Errorf("then %+v", s)
	}
	_, err = w.review(guard, g, true)
	w.must(err)
	if s := <-states; s.Grant.State() != cred.GrantApproved {
		t.Errorf("at last %s", s.Grant.State())
	}
	w.must(<-done)

	stop := errors.New("the caller went away")
	if err := w.Wait(t.Context(), as(runner), g.ID, func(Waited) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestWatchRequests(t *testing.T) {
	w := newWorld(t)
	first := w.request(runner)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan Put, 10)
	current := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- w.WatchRequests(ctx, lead, func(p Put) error { seen <- p; return nil }, func() error { close(current); return nil })
	}()
	if p := <-seen; p.Grant.ID != first.ID {
		t.Errorf("saw %s", p.Grant.ID)
	}
	<-current
	second := w.request(neighbour)
	if p := <-seen; p.Grant.ID != second.ID {
		t.Errorf("saw %s", p.Grant.ID)
	}
	_, err := w.review(guard, first, false)
	w.must(err)
	if p := <-seen; p.Grant.ID != first.ID || p.Grant.State() != cred.GrantDenied {
		t.Errorf("saw %s, %s", p.Grant.ID, p.Grant.State())
	}
	cancel()
	w.must(<-done)
}

// Requests expire, and those who are asked are reminded before.
func TestRequestExpires(t *testing.T) {
	w := newWorld(t)
	told := map[notice.Kind]int{}
	w.cfg.Notify = func(_ store.Tx, n notice.Notice) error { told[n.Kind]++; return nil }
	g := w.request(runner)
	for range 8 {
		w.clock.advance(10 * time.Minute)
		w.sweep()
	}
	got, err := w.GetRequest(t.Context(), auditor, g.ID)
	w.must(err)
	if got.Grant.State() != cred.GrantExpired {
		t.Errorf("it is %s", got.Grant.State())
	}
	want := map[notice.Kind]int{notice.RequestPending: 1, notice.RequestReminder: 2, notice.RequestExpired: 1}
	if !maps.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	if all, err := w.ListRequests(t.Context(), lead); err != nil || len(all) != 0 {
		t.Errorf("%d wait, %v", len(all), err)
	}
}

// A token that counts once makes one grant, and a retry finds that one.
func TestOneTimeToken(t *testing.T) {
	w := newWorld(t)
	who := as(runner)
	who.once = []onceToken{{hashOf("ci", "i", "jti-1"), noon.Add(5 * time.Minute)}}
	want := cred.Request{Target: "db", IdempotencyKey: "k"}
	first, err := w.Exchange(t.Context(), who, want)
	w.must(err)
	again, err := w.Exchange(t.Context(), who, want)
	w.must(err)
	if again.ID != first.ID {
		t.Error("a retry made another grant")
	}
	_, err = w.Exchange(t.Context(), who, cred.Request{Target: "db"})
	refusedAs(t, err, cred.Unauthenticated, "TOKEN_REPLAYED")
	if e := w.lastOf(audit.ExchangeDenied); e.Error.Reason != "TOKEN_REPLAYED" {
		t.Errorf("recorded %+v", e.Error)
	}

	// Nor does it show a grant that was claimed with it to whoever finds it.
	who.once = []onceToken{{hashOf("ci", "i", "jti-2"), noon.Add(5 * time.Minute)}}
	g := w.request(runner)
	for _, p := range []cred.Principal{lead, guard} {
		_, err := w.review(p, g, true)
		w.must(err)
	}
	_, err = w.Claim(t.Context(), who, g.ID, deploy)
	w.must(err)
	_, err = w.Claim(t.Context(), who, g.ID, deploy)
	refusedAs(t, err, cred.Unauthenticated, "TOKEN_REPLAYED")
	other := as(runner)
	other.Claims = map[string]any{"ref": "main", "repository_id": "4711"}
	_, err = w.Claim(t.Context(), other, g.ID, deploy)
	refusedAs(t, err, cred.Denied, "NOT_THE_REQUESTER")

	w.clock.advance(time.Hour)
	w.sweep()
	if n := w.count(store.Seen); n != 0 {
		t.Errorf("%d tokens are remembered after their end", n)
	}
}

// Coming for what was approved counts no second time.
func TestQuotaOfARequest(t *testing.T) {
	w := newWorld(t)
	src := rules()
	i := slices.IndexFunc(src.Targets, func(t policy.Target) bool { return t.Name == "prod" })
	src.Targets[i].Quota = policy.Quota{PerPrincipal: "1/1h"}
	w.setPolicy(src)
	g := w.request(runner)
	for _, who := range []cred.Principal{lead, guard} {
		_, err := w.review(who, g, true)
		w.must(err)
	}
	if _, err := w.Claim(t.Context(), as(runner), g.ID, deploy); err != nil {
		t.Error(err)
	}
	_, err := w.Exchange(t.Context(), as(runner), deploy)
	refusedAs(t, err, cred.Exhausted, "QUOTA_EXCEEDED")
}

func TestQuota(t *testing.T) {
	w := newWorld(t)
	want := cred.Request{Target: "rare"}
	for range 2 {
		_, err := w.Exchange(t.Context(), as(runner), want)
		w.must(err)
	}
	_, err := w.Exchange(t.Context(), as(runner), want)
	e := refusedAs(t, err, cred.Exhausted, "QUOTA_EXCEEDED")
	if e.RetryAfter != 30*time.Minute {
		t.Errorf("to be tried again after %s", e.RetryAfter)
	}
	if got := w.lastOf(audit.ExchangeDenied); got.Error.Reason != "QUOTA_EXCEEDED" || got.Decision == nil || !got.Decision.Allowed {
		t.Errorf("recorded %+v, %+v", got.Error, got.Decision)
	}
	if _, err := w.Exchange(t.Context(), as(neighbour), want); err != nil {
		t.Errorf("another one: %v", err)
	}
	again := cred.Request{Target: "rare", IdempotencyKey: "k"}
	w.clock.advance(30 * time.Minute)
	for range 3 { // a retry finds what the first try made, and counts nothing
		if _, err := w.Exchange(t.Context(), as(runner), again); err != nil {
			t.Errorf("retried: %v", err)
		}
	}
	w.clock.advance(30 * time.Minute)
	if _, err := w.Exchange(t.Context(), as(runner), want); err != nil {
		t.Errorf("after half an hour: %v", err)
	}
}

func (w *world) count(table store.Table) (n int) {
	w.t.Helper()
	w.must(w.sealed.View(context.Background(), func(tx store.Tx) error {
		for _, err := range tx.Scan(store.Query{Table: table}) {
			w.must(err)
			n++
		}
		return nil
	}))
	return n
}

// A parameter that a rule bounds chooses within the target's path.
func TestParameterNarrowsTheSource(t *testing.T) {
	w := newWorld(t)
	src := rules()
	i := slices.IndexFunc(src.Targets, func(t policy.Target) bool { return t.Name == "rare" })
	src.Targets[i].Credential.Path = "creds/rare-{role}"
	i = slices.IndexFunc(src.Rules, ruleNamed("rare"))
	src.Rules[i].May = []policy.May{{Target: "rare", Params: map[string]policy.Param{"role": {OneOf: []string{"ro", "a/b"}}}}}
	w.setPolicy(src)
	ctx := t.Context()
	g, err := w.Exchange(ctx, as(runner), cred.Request{Target: "rare", Params: map[string]string{"role": "ro"}})
	w.must(err)
	var asked string
	w.sources["vault"].during = func(spec issuer.Spec, _ bool) { asked = spec.Target.Credential.Path }
	if _, err := w.RedeemGrant(ctx, runner, g.ID); err != nil {
		t.Fatal(err)
	}
	if asked != "creds/rare-ro" {
		t.Errorf("the source was asked for %q", asked)
	}
	_, err = w.Exchange(ctx, as(runner), cred.Request{Target: "rare"})
	refusedAs(t, err, cred.Invalid, "PARAM_MISSING")
	_, err = w.Exchange(ctx, as(runner), cred.Request{Target: "rare", Params: map[string]string{"role": "a/b"}})
	refusedAs(t, err, cred.Invalid, "PARAM_INVALID")
	if e := w.lastOf(audit.ExchangeDenied); e.Error.Reason != "PARAM_INVALID" {
		t.Errorf("recorded %+v", e.Error)
	}
}
