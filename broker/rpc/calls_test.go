package rpc_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// wantError checks every part of an error that crosses the wire.
func wantError(t *testing.T, err error, kind cred.Kind, reason string) *cred.Error {
	t.Helper()
	e, ok := err.(*cred.Error)
	if !ok || e.Kind != kind || e.Reason != reason {
		t.Fatalf("got %v, want kind %v and reason %q", err, kind, reason)
	}
	if e.Public == "" {
		t.Errorf("%s says nothing to people", reason)
	}
	return e
}

func eachWorld(t *testing.T, test func(*testing.T, *world)) {
	t.Run("TLS", func(t *testing.T) { test(t, newWorld(t, settings{})) })
	t.Run("h2c", func(t *testing.T) { test(t, newWorld(t, settings{plain: true})) })
}

func TestExchangeDirect(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		got, err := w.member().Exchange(t.Context(), cred.Request{Target: "orders", Scopes: []string{"read"}, TTL: time.Minute, Reason: "a test"})
		must(t, err)
		if got.Credential == nil || got.Credential.Type != cred.Bearer || got.Credential.Fields["token"].RevealString() != w.mint.issued[0] {
			t.Errorf("credential %v, minted %v", got.Credential, w.mint.issued)
		}
		g := got.Grant
		if g.GetTarget() != "orders" || g.GetRule() != "team-has-orders" || g.GetHolder().GetSubject() != "ann" || g.GetReason() != "a test" || g.GetState() != "active" {
			t.Errorf("grant %v", g)
		}
		if life := g.GetExpireTime().AsTime().Sub(g.GetCreateTime().AsTime()); life != time.Minute {
			t.Errorf("lives %v, want the minute that was asked for", life)
		}
		if got.Token.IsZero() || got.Lease == "" || g.GetEndTime() != nil {
			t.Errorf("token %v, lease %q, end %v", got.Token, got.Lease, g.GetEndTime())
		}
	})
}

func TestExchangeForAProxyThenRedeem(t *testing.T) {
	w := newWorld(t, settings{})
	got, err := w.member().Exchange(t.Context(), cred.Request{Target: "api"})
	must(t, err)
	if got.Credential != nil || got.Lease != "" {
		t.Fatal("the caller of a proxied target got its credential")
	}
	r, err := w.edge().Redeem(t.Context(), got.Token)
	must(t, err)
	want := cred.HTTPTarget{Upstream: "https://api.example.com"}
	if *r.Target.HTTP != want || r.Target.Name != "api" || !slices.Equal(r.Target.Mask.Detectors, []string{"secrets"}) {
		t.Errorf("target %+v %+v", r.Target, r.Target.HTTP)
	}
	if r.Credential.Fields["token"].RevealString() != staticSecret || r.Grant.GetId() != got.Grant.GetId() || r.Lease == "" {
		t.Errorf("grant %v, lease %q, or another credential", r.Grant, r.Lease)
	}
	_, err = w.edge().Redeem(t.Context(), cred.SecretString("no.grant.token"))
	wantError(t, err, cred.Unauthenticated, "TOKEN_MALFORMED")
	_, err = w.proxy(w.ca, "daypass://proxy/other").Redeem(t.Context(), got.Token)
	wantError(t, err, cred.Denied, "NOT_THE_REDEEMER")
	if n := len(w.events(audit.RedeemRefused)); n != 2 {
		t.Errorf("%d refusals are recorded, want 2", n)
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	first, err := ann.Exchange(t.Context(), cred.Request{Target: "orders", Scopes: []string{"read"}})
	must(t, err)
	second, err := ann.Exchange(t.Context(), cred.Request{Target: "orders", Scopes: []string{"read"}})
	must(t, err)

	holder := w.as(first.Token.RevealString())
	_, err = holder.Revoke(t.Context(), cred.GrantID(second.Grant.GetId()), "")
	wantError(t, err, cred.NotFound, "GRANT_UNKNOWN")
	_, err = ann.Revoke(t.Context(), "", "")
	wantError(t, err, cred.Invalid, "GRANT_ID_MISSING")
	if _, revoked := w.mint.counts(); revoked != 0 {
		t.Fatal("a refused revocation revoked")
	}
	r, err := holder.Revoke(t.Context(), "", "the job is over")
	must(t, err)
	if r.GetGrant().GetId() != first.Grant.GetId() || r.GetGrant().GetState() != "revoked" || r.GetGrant().GetEndReason() != "the job is over" ||
		len(r.GetLeases()) != 1 || r.GetLeases()[0].GetState() != "revoked" || r.GetLeases()[0].GetId() != string(first.Lease) {
		t.Errorf("answer %v", r)
	}
	_, err = w.as(w.token("sam", "security")).Revoke(t.Context(), cred.GrantID(second.Grant.GetId()), "")
	must(t, err)
	if _, revoked := w.mint.counts(); revoked != 2 {
		t.Errorf("%d leases were revoked at their source, want 2", revoked)
	}
}

func TestListTargetsAndWhoAmI(t *testing.T) {
	w := newWorld(t, settings{})
	targets, err := w.member().Targets(t.Context())
	must(t, err)
	var names []string
	for _, o := range targets {
		names = append(names, o.GetName()+"/"+o.GetDelivery().String()+"/"+strings.Join(o.GetScopes(), "+")+"/"+o.GetMaxTtl().AsDuration().String())
	}
	slices.Sort(names)
	if want := []string{"api/DELIVERY_PROXY//15m0s", "orders/DELIVERY_DIRECT/read/15m0s", "prod/DELIVERY_DIRECT//10m0s"}; !slices.Equal(names, want) {
		t.Errorf("targets %v, want %v", names, want)
	}
	if none, err := w.as(w.token("eve")).Targets(t.Context()); err != nil || len(none) != 0 {
		t.Errorf("somebody without rules may ask for %v, %v", none, err)
	}
	p, err := w.member().WhoAmI(t.Context())
	must(t, err)
	if p.GetSubject() != "ann" || p.GetProvider() != "people" || p.GetIssuer() != w.idp.URL() || p.GetKind() != "person" || !slices.Equal(p.GetGroups(), []string{"team"}) {
		t.Errorf("who am I: %v", p)
	}
}

func TestListAndGetGrants(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	var made []string
	for range 3 {
		got, err := ann.Exchange(t.Context(), cred.Request{Target: "orders"})
		must(t, err)
		made = append(made, got.Grant.GetId())
	}
	page, next, err := ann.Grants(t.Context(), &pb.ListGrantsRequest{PageSize: 2})
	must(t, err)
	rest, end, err := ann.Grants(t.Context(), &pb.ListGrantsRequest{PageSize: 2, PageToken: next})
	must(t, err)
	if len(page) != 2 || len(rest) != 1 || end != "" {
		t.Fatalf("pages of %d and %d, then %q", len(page), len(rest), end)
	}
	seen := []string{page[0].GetId(), page[1].GetId(), rest[0].GetId()}
	slices.Sort(seen)
	slices.Sort(made)
	if !slices.Equal(seen, made) {
		t.Errorf("listed %v, made %v", seen, made)
	}
	for who, want := range map[string]int{"eve": 0, "aud": 3} {
		all, _, err := w.as(w.token(who, map[string]string{"aud": "audit"}[who])).Grants(t.Context(), &pb.ListGrantsRequest{})
		if err != nil || len(all) != want {
			t.Errorf("%s sees %d grants, %v; want %d", who, len(all), err, want)
		}
	}
	g, err := ann.Grant(t.Context(), cred.GrantID(made[0]))
	must(t, err)
	if g.GetGrant().GetId() != made[0] || len(g.GetLeases()) != 1 || g.GetLeases()[0].GetFingerprint() == "" || g.GetLeases()[0].GetGrantId() != made[0] {
		t.Errorf("grant %v", g)
	}
	_, _, err = ann.Grants(t.Context(), &pb.ListGrantsRequest{PageToken: "\x00\x01"})
	if k := cred.KindOf(err); err != nil && k != cred.Invalid {
		t.Errorf("a page token of control characters: %v", err)
	}
}

// One idempotency key is one grant, and the second credential ends the first.
func TestExchangeAgainWithTheSameKey(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	want := cred.Request{Target: "orders", IdempotencyKey: "job-1"}
	first, err := ann.Exchange(t.Context(), want)
	must(t, err)
	second, err := ann.Exchange(t.Context(), want)
	must(t, err)
	if issued, revoked := w.mint.counts(); first.Grant.GetId() != second.Grant.GetId() || issued != 2 || revoked != 1 {
		t.Errorf("grants %s and %s, issued %d, revoked %d", first.Grant.GetId(), second.Grant.GetId(), issued, revoked)
	}
	want.Reason = "something else"
	_, err = ann.Exchange(t.Context(), want)
	wantError(t, err, cred.Conflict, "IDEMPOTENCY_KEY_REUSED")
	var fresh [2]sdk.Granted
	for i := range fresh {
		fresh[i], err = ann.Exchange(t.Context(), cred.Request{Target: "orders"})
		must(t, err)
	}
	if fresh[0].Grant.GetId() == fresh[1].Grant.GetId() {
		t.Error("two exchanges without a key share a grant")
	}
}
