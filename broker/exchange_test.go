package broker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

func TestExchangeGrants(t *testing.T) {
	w := newWorld(t)
	ctx := WithPeer(t.Context(), "192.0.2.7")
	g, err := w.Exchange(ctx, as(runner), cred.Request{Target: "db", Scopes: []string{"read"}, TTL: time.Minute, Reason: "deploy"})
	w.must(err)
	if g.State() != cred.GrantActive || g.Rule != "ci" || !g.NotAfter.Equal(noon.Add(time.Minute)) {
		t.Errorf("granted %+v", g)
	}
	e := w.lastOf(audit.ExchangeGranted)
	if e.Grant != g.ID || e.Peer != "192.0.2.7" || e.Decision.Rule != "ci" || e.Request.Digest != g.Digest.String() || e.Principal.Subject != runner.Subject {
		t.Errorf("recorded %+v", e)
	}
	claims, err := token.NewVerifier(brokerURL, w.keys, w.now).Verify(ctx, w.token(g), token.Audience("db"))
	w.must(err)
	if claims.Grant.ID != g.ID || !claims.ExpiresAt.Equal(g.NotAfter) || !cmp.Equal(claims.Scopes, []string{"read"}) {
		t.Errorf("the token says %+v", claims)
	}
	if len(w.Offers(runner)) != 12 || len(w.Offers(nosy)) != 2 { // what people can ask for
		t.Errorf("%d and %d offers", len(w.Offers(runner)), len(w.Offers(nosy)))
	}
}

func TestExchangeDenies(t *testing.T) {
	stranger := runner
	stranger.Claims = map[string]any{"ref": "feature"}
	for _, test := range []struct {
		name         string
		who          cred.Principal
		want         cred.Request
		kind         cred.Kind
		reason, rule string
		claim        string // a part of it
		logged       string // the rule in the log
	}{
		{"by a condition", stranger, cred.Request{Target: "plain"}, cred.Denied, policy.ReasonNoRuleMatches, "ci", "principal.claims.ref", "ci"},
		{"by its scope", runner, cred.Request{Target: "db", Scopes: []string{"write"}}, cred.Denied, policy.ReasonScopeNotAllowed, "ci", "write", "ci"},
		{"what is not there", runner, cred.Request{Target: "nothing"}, cred.NotFound, policy.ReasonTargetUnknown, "", "", ""},
		{"what is hidden", runner, cred.Request{Target: "hidden"}, cred.NotFound, policy.ReasonTargetUnknown, "", "", "others"},
		{"a negative life", runner, cred.Request{Target: "db", TTL: -time.Second}, cred.Invalid, policy.ReasonTTLInvalid, "", "", ""},
		{"less than a second", runner, cred.Request{Target: "db", TTL: time.Second - 1}, cred.Invalid, policy.ReasonTTLInvalid, "", "", ""},
		{"a scope with a space", runner, cred.Request{Target: "db", Scopes: []string{"read write"}}, cred.Invalid, "SCOPE_MALFORMED", "", "", ""},
		{"large parameters", runner, cred.Request{Target: "db", Params: map[string]string{"a": strings.Repeat("x", 200<<10)}}, cred.Invalid, "PARAMS_TOO_LARGE", "", "", ""},
		{"an empty scope", runner, cred.Request{Target: "db", Scopes: []string{""}}, cred.Invalid, "SCOPE_MALFORMED", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.Exchange(t.Context(), as(test.who), test.want)
			e := refusedAs(t, err, test.kind, test.reason)
			if e.Rule != test.rule || !strings.Contains(e.Claim, test.claim) || test.claim == "" && e.Claim != "" {
				t.Errorf("the caller learns rule %q, claim %q", e.Rule, e.Claim)
			}
			entry := w.lastOf(audit.ExchangeDenied)
			if entry.Error.Reason != test.reason || entry.Principal.Subject != test.who.Subject || entry.Request.Target != test.want.Target {
				t.Errorf("recorded %+v", entry)
			}
			if d := entry.Decision; test.kind != cred.Invalid && (d == nil || d.Allowed || d.Rule != test.logged) {
				t.Errorf("the log has the decision %+v, want rule %q", d, test.logged)
			}
		})
	}
}

// What is hidden from a caller answers as what does not exist.
func TestHiddenLooksUnknown(t *testing.T) {
	w := newWorld(t)
	var texts []string
	for _, name := range []string{"hidden", "absent"} {
		_, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: name})
		e := refusedAs(t, err, cred.NotFound, policy.ReasonTargetUnknown)
		texts = append(texts, strings.ReplaceAll(e.Public, name, "NAME")+e.Rule+e.Claim)
	}
	if texts[0] != texts[1] {
		t.Errorf("%q and %q tell the two apart", texts[0], texts[1])
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	want := cred.Request{Target: "db", IdempotencyKey: "k"}
	first, err := w.Exchange(ctx, as(runner), want)
	w.must(err)
	w.clock.advance(time.Second)
	again, err := w.Exchange(ctx, as(runner), want)
	w.must(err)
	if again.ID != first.ID || !again.NotAfter.Equal(first.NotAfter) {
		t.Error("a retry made another grant, or moved its end")
	}
	if n := len(w.eventsOf(audit.ExchangeGranted)); n != 1 {
		t.Errorf("%d entries tell of one grant", n)
	}
	_, err = w.Exchange(ctx, as(runner), cred.Request{Target: "plain", IdempotencyKey: "k"})
	refusedAs(t, err, cred.Conflict, "IDEMPOTENCY_KEY_REUSED")
	if e := w.lastOf(audit.ExchangeDenied); e.Error.Reason != "IDEMPOTENCY_KEY_REUSED" || e.Request.Target != "plain" {
		t.Errorf("the refusal is recorded as %+v", e)
	}

	other, err := w.Exchange(ctx, as(neighbour), want)
	w.must(err)
	if other.ID == first.ID || !other.Holder.Same(neighbour) {
		t.Error("one holder's key found another's grant")
	}
	unkeyed, err := w.Exchange(ctx, as(runner), cred.Request{Target: "db"})
	w.must(err)
	if unkeyed.ID == first.ID {
		t.Error("a request without a key found an earlier grant")
	}

	_, _, err = w.Revoke(ctx, runner, first.ID, "done")
	w.must(err)
	again, err = w.Exchange(ctx, as(runner), want)
	w.must(err)
	if again.ID != first.ID || again.State() != cred.GrantRevoked {
		t.Errorf("after its revocation a retry finds %s, %s", again.ID, again.State())
	}
	_, err = w.GrantToken(again)
	refusedAs(t, err, cred.Denied, "GRANT_REVOKED")
}

// The same key at the same time makes one grant.
func TestIdempotencyUnderConcurrency(t *testing.T) {
	w := newWorld(t)
	ids := make(chan cred.GrantID, 8)
	for range cap(ids) {
		go func() {
			g, err := w.Exchange(context.Background(), as(runner), cred.Request{Target: "db", IdempotencyKey: "k"})
			if err != nil {
				t.Error(err)
			}
			ids <- g.ID
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Errorf("one key made %s and %s", first, id)
		}
	}
}

// A retry after a lost answer finds the grant; after a write that failed it makes the first one.
func TestExchangeStoreFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault  fault
		grants int // after the failed try
	}{"not done": {notDone, 0}, "done, answer lost": {doneLost, 1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			want := cred.Request{Target: "db", IdempotencyKey: "k"}
			w.store.plan(test.fault)
			g, err := w.Exchange(t.Context(), as(runner), want)
			refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
			if g.ID != "" {
				t.Error("a grant came with the error")
			}
			if n := len(w.eventsOf(audit.ExchangeGranted)); n != test.grants {
				t.Errorf("%d grants after the try", n)
			}
			_, err = w.Exchange(t.Context(), as(runner), want)
			w.must(err)
			if n := len(w.eventsOf(audit.ExchangeGranted)); n != 1 {
				t.Errorf("%d grants after the retry", n)
			}
		})
	}
}

// A refusal that can't be recorded is not told.
func TestDenialNotRecorded(t *testing.T) {
	w := newWorld(t)
	w.store.plan(notDone)
	_, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "absent"})
	refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
}

// An event that no log can hold is the caller's to change, not to repeat.
func TestRequestTooLargeForTheLog(t *testing.T) {
	w := newWorld(t)
	_, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", Reason: strings.Repeat("x", 70_000)})
	refusedAs(t, err, cred.Invalid, "AUDIT_ENTRY_INVALID")
	if len(w.eventsOf(audit.ExchangeGranted)) != 0 {
		t.Error("it was granted")
	}
}

func TestGrantTokenEnds(t *testing.T) {
	w := newWorld(t)
	w.clock.advance(300 * time.Millisecond)
	g, err := w.Exchange(t.Context(), as(runner), cred.Request{Target: "db", TTL: 1500 * time.Millisecond})
	w.must(err)
	w.token(g)
	w.clock.advance(900 * time.Millisecond)
	_, err = w.GrantToken(g) // 12:00:01.2 to 12:00:01.8: no token says that in whole seconds
	refusedAs(t, err, cred.Expired, "GRANT_EXPIRED")
	w.clock.advance(time.Second)
	_, err = w.GrantToken(g)
	refusedAs(t, err, cred.Expired, "GRANT_EXPIRED")
}

func TestTargetOfGrant(t *testing.T) {
	w := newWorld(t)
	_, err := w.Target(cred.Grant{Want: cred.Request{Target: "gone"}})
	refusedAs(t, err, cred.NotFound, "TARGET_UNKNOWN")
}

// A target that is missing and one that is forbidden are refused with the same work, entry included,
// so that the time of an answer tells of neither.
func TestMissingCostsWhatForbiddenDoes(t *testing.T) {
	w := newWorld(t)
	work := func(target string) (int64, int) {
		steps, entries := w.process.steps.Load(), len(w.events())
		_, err := w.Exchange(t.Context(), as(nosy), cred.Request{Target: target})
		refusedAs(t, err, cred.NotFound, policy.ReasonTargetUnknown)
		return w.process.steps.Load() - steps, len(w.events()) - entries
	}
	absentSteps, absentEntries := work("absent")
	hiddenSteps, hiddenEntries := work("hidden")
	if absentSteps != hiddenSteps || absentEntries != hiddenEntries || absentSteps == 0 || absentEntries != 1 {
		t.Errorf("missing takes %d steps and %d entries, forbidden %d and %d", absentSteps, absentEntries, hiddenSteps, hiddenEntries)
	}
}
