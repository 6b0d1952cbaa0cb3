package broker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
)

func TestRedeem(t *testing.T) {
	for target, redeemer := range map[string]string{"db": "holder", "plain": "holder", "api": "proxy/edge"} {
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(target)
			r, err := w.redeem(target, tok)
			w.must(err)
			l := w.lease(g.ID)
			w.wantState(l, cred.LeaseIssued)
			if r.Grant.ID != g.ID || r.Target.Name != target || r.Lease.ID != l.ID || r.Lease.Rev != l.Rev {
				t.Errorf("redeemed %+v", r)
			}
			if l.Redeemer != redeemer || l.Fingerprint != r.Credential.Fingerprint() || !l.NotAfter.Equal(g.NotAfter) {
				t.Errorf("the lease is %+v", l)
			}
			if _, lives := w.sources[sourceOf(target)].live()[l.ID]; !lives {
				t.Error("the credential does not live")
			}
			kinds := w.eventsOf(audit.LeaseIntent, audit.LeaseIssued)
			if len(kinds) != 2 || kinds[0].Lease.SecretFingerprint != "" || kinds[1].Lease.SecretFingerprint != l.Fingerprint.String() {
				t.Errorf("recorded %+v", kinds)
			}
			if reserved := kinds[0].Lease.HandleFingerprint != ""; reserved != (target != "plain") {
				t.Errorf("the intent of %s has a handle: %v", target, reserved)
			}
		})
	}
}

func TestRedeemRefuses(t *testing.T) {
	agent := edge
	agent.Kind = cred.KindWorkload
	for _, test := range []struct {
		name, target string
		who          cred.Principal
		reason       string
	}{
		{"somebody else", "db", neighbour, "NOT_THE_REDEEMER"},
		{"the same subject of another provider", "db", cred.Principal{Provider: "other", Issuer: runner.Issuer, Subject: runner.Subject}, "NOT_THE_REDEEMER"},
		{"the same subject of another issuer", "db", cred.Principal{Provider: "ci", Issuer: "https://x.example.com", Subject: runner.Subject}, "NOT_THE_REDEEMER"},
		{"a proxy for a direct target", "db", edge, "NOT_THE_REDEEMER"},
		{"security for a direct target", "db", security, "NOT_THE_REDEEMER"},
		{"the holder for a proxied target", "api", runner, "PROXY_ONLY"},
		{"a proxy that is not configured", "api", proxyNamed("other"), "NOT_THE_REDEEMER"},
		{"a workload with a proxy's name", "api", agent, "PROXY_ONLY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(test.target)
			r, err := w.Redeem(t.Context(), test.who, tok)
			refusedAs(t, err, cred.Denied, test.reason)
			if r.Credential.Fields != nil || w.sources["vault"].count("issue") != 0 {
				t.Error("something was issued")
			}
			if e := w.lastOf(audit.RedeemRefused); e.Grant != g.ID || e.Principal.Subject != test.who.Subject || e.Error.Reason != test.reason {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// Without a MayRedeem no proxy may.
func TestMayRedeemDefault(t *testing.T) {
	w := newWorld(t)
	w.change = func(c *Config) { c.MayRedeem = nil }
	w.start()
	_, tok := w.grant("api")
	_, err := w.Redeem(t.Context(), edge, tok)
	refusedAs(t, err, cred.Denied, "NOT_THE_REDEEMER")
}

func TestRedeemRefusesTokens(t *testing.T) {
	w := newWorld(t)
	g, good := w.grant("db")
	foreign, err := token.NewKeyRing(token.EdDSA, noon)
	w.must(err)
	claims := token.Claims{
		Issuer: brokerURL, Subject: g.Holder.Subject, Audience: []string{token.Audience("db")}, ClientID: "ci", IssuedAt: noon,
		NotBefore: noon, ExpiresAt: noon.Add(time.Minute), ID: "jti", Grant: token.GrantClaims{ID: g.ID, Target: "db"},
	}
	sign := func(r *token.KeyRing, change func(*token.Claims)) string {
		c := claims
		change(&c)
		tok, err := r.Sign(c)
		w.must(err)
		w.tokens = append(w.tokens, tok)
		return tok
	}
	parts := strings.Split(good, ".")
	idToken, err := w.keys.SignIDToken(brokerURL, "daypass", token.Audience("db"), noon, time.Minute, map[string]any{"daypass": map[string]any{"target": "db", "grant": g.ID}})
	w.must(err)
	for _, test := range []struct {
		name, tok string
		kind      cred.Kind
		reason    string
	}{
		{"nothing", "", cred.Unauthenticated, "TOKEN_MALFORMED"},
		{"another key", sign(foreign, func(*token.Claims) {}), cred.Unauthenticated, "UNKNOWN_KEY"},
		{"another signature", parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), cred.Unauthenticated, "BAD_SIGNATURE"},
		{"expired", sign(w.keys, func(c *token.Claims) {
			c.NotBefore, c.IssuedAt, c.ExpiresAt = noon.Add(-time.Hour), noon.Add(-time.Hour), noon.Add(-time.Minute)
		}), cred.Unauthenticated, "TOKEN_EXPIRED"},
		{"another audience", sign(w.keys, func(c *token.Claims) { c.Audience = []string{"https://elsewhere.example.com"} }), cred.Unauthenticated, "WRONG_AUDIENCE"},
		{"another broker", sign(w.keys, func(c *token.Claims) { c.Issuer = "https://elsewhere.example.com" }), cred.Unauthenticated, "WRONG_ISSUER"},
		{"bound to a key", sign(w.keys, func(c *token.Claims) { c.Confirmation = &token.Confirmation{KeyThumbprint: "x"} }), cred.Denied, "BOUND_TOKEN"},
		{"restricted", sign(w.keys, func(c *token.Claims) {
			c.Grant.Restrictions = map[string]json.RawMessage{"paths": json.RawMessage("1")}
		}), cred.Denied, "UNKNOWN_RESTRICTION"},
		{"no such grant", sign(w.keys, func(c *token.Claims) { c.Grant.ID = "gr_0" }), cred.NotFound, "GRANT_UNKNOWN"},
		{"no ID of a grant", sign(w.keys, func(c *token.Claims) { c.Grant.ID = "gr 0/../" }), cred.NotFound, "GRANT_UNKNOWN"},
		{"an identity token", idToken.RevealString(), cred.Unauthenticated, "WRONG_TYPE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = t }()
			_, err := w.Redeem(t.Context(), runner, test.tok)
			refusedAs(t, err, test.kind, test.reason)
			e := w.lastOf(audit.RedeemRefused)
			if e.Principal == nil || e.Principal.Subject != runner.Subject {
				t.Error("the log does not say who it was")
			}
			if want := cred.SecretString(test.tok).Fingerprint().String(); test.kind != cred.NotFound && e.Detail["token_fingerprint"] != want {
				t.Errorf("the log has the detail %v", e.Detail)
			}
		})
	}
	if n := w.sources["vault"].count("issue"); n != 0 {
		t.Errorf("%d credentials were issued", n)
	}
}

func TestRedeemOfWhatIsOver(t *testing.T) {
	for name, end := range map[string]struct {
		do     func(w *world, id cred.GrantID)
		kind   cred.Kind
		reason string
	}{
		"revoked": {func(w *world, id cred.GrantID) {
			_, _, err := w.Revoke(context.Background(), runner, id, "")
			w.must(err)
		}, cred.Denied, "GRANT_REVOKED"},
		"ended": {func(w *world, id cred.GrantID) { w.clock.advance(15 * time.Minute) }, cred.Expired, "GRANT_EXPIRED"},
		"swept": {func(w *world, id cred.GrantID) { w.clock.advance(15 * time.Minute); w.sweep() }, cred.Expired, "GRANT_EXPIRED"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant("db")
			end.do(w, g.ID)
			_, err := w.Redeem(t.Context(), runner, tok) // the token's own end is given a few seconds of skew
			refusedAs(t, err, end.kind, end.reason)
			if e := w.lastOf(audit.RedeemRefused); e.Grant != g.ID {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func TestRedeemOfNoIssuer(t *testing.T) {
	w := newWorld(t)
	_, tok := w.grant("stray")
	if _, err := w.Redeem(t.Context(), runner, tok); cred.KindOf(err) != cred.Internal {
		t.Errorf("a target whose issuer does not run: %v", err)
	}
}

// Whoever redeems again gives up the earlier credential first.
func TestRedeemAgain(t *testing.T) {
	for _, target := range []string{"db", "plain", "endless"} {
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(target)
			source := w.sources[sourceOf(target)]
			first, err := w.redeem(target, tok)
			w.must(err)
			source.during = func(issuer.Spec, bool) {
				if _, lives := source.live()[first.Lease.ID]; lives {
					t.Error("the second was asked for while the first lived")
				}
			}
			w.clock.advance(time.Millisecond) // leases are in order of time
			second, err := w.redeem(target, tok)
			w.must(err)
			if len(source.live()) != 1 || second.Lease.ID == first.Lease.ID {
				t.Errorf("%v live", slices.Collect(maps.Keys(source.live())))
			}
			leases := w.leasesOf(g.ID)
			w.wantState(leases[0], cred.LeaseRevoked)
			w.wantState(leases[1], cred.LeaseIssued)
		})
	}
}

// As long as the earlier credential can't be revoked there is no second one.
func TestRedeemAgainWhileTheSourceFails(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.sources["vault"].plan("revoke", notDone)
	_, err = w.redeem("db", tok)
	refusedAs(t, err, cred.Unavailable, "EARLIER_LEASE_LIVES")
	w.wantState(w.lease(g.ID), cred.LeaseRevoking)
	_, err = w.redeem("db", tok)
	w.must(err)
	w.wantLive("vault", 1)
}

// A credential that its source can't end blocks nothing: it is told.
func TestRedeemAgainUnrevocable(t *testing.T) {
	w := newWorld(t)
	_, tok := w.grant("fixed")
	for range 2 {
		r, err := w.redeem("fixed", tok)
		w.must(err)
		if r.Lease.Revocable || r.Lease.Note == "" {
			t.Errorf("the lease does not say that it can't be revoked: %+v", r.Lease)
		}
	}
	w.wantLive("fixed", 2)
}

// One of two who redeem at once gets the credential, or each in turn; never do two live.
func TestConcurrentRedeems(t *testing.T) {
	w := newWorld(t)
	_, tok := w.grant("db")
	var wg sync.WaitGroup
	var mu sync.Mutex
	redeemed := 0
	for range 6 {
		wg.Go(func() {
			_, err := w.Redeem(context.Background(), runner, tok)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				redeemed++
				return
			}
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != cred.Unavailable || e.Reason != "REDEEM_IN_PROGRESS" && e.Reason != "OUTCOME_NOT_RECORDED" && e.Reason != "EARLIER_LEASE_LIVES" {
				t.Errorf("who came second is told %v", err)
			}
		})
	}
	wg.Wait()
	if redeemed == 0 {
		t.Error("nobody redeemed")
	}
	if n := len(w.sources["vault"].live()); n != 1 {
		t.Errorf("%d credentials live", n)
	}
}

// A second redemption in the middle of the first one is told so, before and after the source minted.
func TestRedeemDuringRedeem(t *testing.T) {
	for _, target := range []string{"db", "plain"} {
		w := newWorld(t)
		_, tok := w.grant(target)
		source := w.sources[sourceOf(target)]
		inner := 0
		source.during = func(issuer.Spec, bool) {
			_, err := w.redeem(target, tok)
			refusedAs(t, err, cred.Unavailable, "REDEEM_IN_PROGRESS")
			inner++
		}
		_, err := w.redeem(target, tok)
		w.must(err)
		if inner != 2 || len(source.live()) != 1 {
			t.Errorf("%d tries, %d live", inner, len(source.live()))
		}
	}
}

// Even if both pass the first look, the transaction of the intent lets one in.
func TestRedeemsThatMeetAtTheIntent(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("plain")
	a, err := w.admit(t.Context(), runner, g.ID)
	w.must(err)
	w.must(a.retireEarlier(t.Context()))
	w.sources["plain"].during = func(_ issuer.Spec, minted bool) {
		w.sources["plain"].during = nil
		_, err := a.issue(t.Context())
		refusedAs(t, err, cred.Unavailable, "REDEEM_IN_PROGRESS")
	}
	_, err = w.redeem("plain", tok)
	w.must(err)
	w.wantLive("plain", 1)
}

// A grant that ends while its credential is made gives nobody anything.
func TestGrantEndsDuringIssue(t *testing.T) {
	ends := map[string]struct {
		do     func(w *world, id cred.GrantID)
		kind   cred.Kind
		reason string
	}{
		"revoked": {func(w *world, id cred.GrantID) {
			_, _, err := w.Revoke(context.Background(), security, id, "")
			w.must(err)
		}, cred.Denied, "GRANT_REVOKED"},
		"expired": {func(w *world, id cred.GrantID) { w.clock.advance(15 * time.Minute) }, cred.Expired, "GRANT_EXPIRED"},
	}
	for target, name := range map[string]string{"db": "vault", "plain": "plain", "endless": "endless", "long": "long"} {
		for end, test := range ends {
			for _, after := range []bool{false, true} {
				t.Run(target+"/"+end, func(t *testing.T) {
					w := newWorld(t)
					g, tok := w.grant(target)
					w.sources[name].during = func(_ issuer.Spec, minted bool) {
						if minted == after {
							test.do(w, g.ID)
						}
					}
					r, err := w.redeem(target, tok)
					refusedAs(t, err, test.kind, test.reason)
					if r.Credential.Fields != nil {
						t.Error("the secret came with the error")
					}
					w.wantLive(name, 0)
					if l := w.lease(g.ID); !l.Final() {
						t.Errorf("the lease is %s", l.State())
					}
				})
			}
		}
	}
}

// What an issuer's error means for the lease, for issuers that reserve and those that don't.
func TestIssuerFaults(t *testing.T) {
	for _, test := range []struct {
		target string
		fault  fault
		state  cred.LeaseState
		live   int // what lives and can't be taken back is unknown, and said so
		kind   cred.Kind
	}{
		{"db", notDone, cred.LeaseFailed, 0, cred.Unavailable},
		{"db", refusedOff, cred.LeaseFailed, 0, cred.Denied},
		{"db", doneLost, cred.LeaseRevoked, 0, cred.Unavailable},
		{"db", doneOddly, cred.LeaseRevoked, 0, cred.Internal},
		{"plain", notDone, cred.LeaseFailed, 0, cred.Unavailable},
		{"plain", refusedOff, cred.LeaseFailed, 0, cred.Denied},
		{"plain", doneLost, cred.LeaseUnknown, 1, cred.Unavailable},
		{"plain", doneOddly, cred.LeaseUnknown, 1, cred.Internal},
	} {
		w := newWorld(t)
		g, tok := w.grant(test.target)
		name := sourceOf(test.target)
		w.sources[name].plan("issue", test.fault)
		_, err := w.redeem(test.target, tok)
		if err == nil || cred.KindOf(err) != test.kind {
			t.Errorf("%s, fault %d: %v", test.target, test.fault, err)
		}
		l := w.lease(g.ID)
		w.wantState(l, test.state)
		w.wantLive(name, test.live)
		if test.state != cred.LeaseRevoked && l.Note == "" {
			t.Errorf("a lease that is %s does not say why", l.State())
		}
		w.check()
		if _, err := w.redeem(test.target, tok); err != nil {
			t.Errorf("%s, fault %d: the next try fails: %v", test.target, test.fault, err)
		}
		w.clock.advance(15 * time.Minute)
		w.sweep()
		w.wantLive(name, 0)
	}
}

func TestReserveFaults(t *testing.T) {
	for _, f := range []fault{notDone, doneLost} {
		w := newWorld(t)
		g, tok := w.grant("db")
		w.sources["vault"].plan("reserve", f)
		if _, err := w.redeem("db", tok); cred.KindOf(err) != cred.Unavailable {
			t.Errorf("got %v", err)
		}
		if n := len(w.leasesOf(g.ID)); n != 0 || w.sources["vault"].count("issue") != 0 {
			t.Errorf("%d leases without a reservation", n)
		}
	}
}

// An issuer that hangs is given up before the intent counts as abandoned, and what it makes in the
// end is taken back.
func TestIssuerHangs(t *testing.T) {
	for target, want := range map[string]cred.LeaseState{"db": cred.LeaseRevoked, "plain": cred.LeaseUnknown} {
		t.Run(target, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := buildWorld(t, dir, time.Now)
				g, tok := w.grant(target)
				w.sources[sourceOf(target)].plan("issue", hangs)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := w.Redeem(ctx, runner, tok)
				refusedAs(t, err, cred.Unavailable, "")
				if took := time.Since(began); took != 15*time.Second {
					t.Errorf("it took %v", took)
				}
				w.wantState(w.lease(g.ID), want)
				w.check()
				w.close()
			})
		})
	}
}

// Whatever write fails, in whatever form, nobody gets a credential that is not on record, and none
// is left behind.
func TestRedeemStoreFaults(t *testing.T) {
	sources := map[string]string{"db": "vault", "plain": "plain", "endless": "endless"}
	for target, name := range sources {
		for _, test := range []struct {
			name   string
			plan   []fault
			reason string
			live   int // right after the call
			state  cred.LeaseState
		}{
			{"intent not written", []fault{notDone}, "NOT_RECORDED", 0, ""},
			{"intent's answer lost", []fault{doneLost}, "NOT_RECORDED", 0, cred.LeaseIntent},
			{"outcome not written", []fault{works, notDone}, "OUTCOME_NOT_RECORDED", 0, cred.LeaseRevoked},
			{"outcome's answer lost", []fault{works, doneLost}, "OUTCOME_NOT_RECORDED", 0, cred.LeaseRevoked},
			{"no write works any more", []fault{works, notDone, notDone, notDone, notDone}, "OUTCOME_NOT_RECORDED", 0, cred.LeaseIntent},
			{"outcome's answer lost and none works", []fault{works, doneLost, notDone, notDone, notDone}, "OUTCOME_NOT_RECORDED", 0, cred.LeaseIssued},
		} {
			t.Run(target+"/"+test.name, func(t *testing.T) {
				w := newWorld(t)
				g, tok := w.grant(target)
				w.store.plan(test.plan...)
				r, err := w.redeem(target, tok)
				refusedAs(t, err, cred.Unavailable, test.reason)
				if r.Credential.Fields != nil {
					t.Error("the secret came with the error")
				}
				w.wantLive(name, test.live)
				if leases := w.leasesOf(g.ID); test.state == "" && len(leases) != 0 {
					t.Errorf("%d leases", len(leases))
				} else if test.state != "" {
					w.wantState(w.lease(g.ID), test.state)
				}
				w.replay() // not the sources: what is revoked there may not be on record yet
				w.store.mu.Lock()
				w.store.next = nil
				w.store.mu.Unlock()
				w.clock.advance(20 * time.Second)
				w.sweep()
				w.check()
				if _, err := w.redeem(target, tok); err != nil {
					t.Errorf("the next try: %v", err)
				}
				w.wantLive(name, 1)
			})
		}
	}
}

// An outcome that can't be written and a source that then won't revoke: the handle is on record all
// the same, also for an issuer that can't reserve, and the sweep ends the credential.
func TestOutcomeLostAndRevokeFails(t *testing.T) {
	for target, name := range map[string]string{"db": "vault", "plain": "plain", "endless": "endless"} {
		t.Run(target, func(t *testing.T) {
			w := newWorld(t)
			g, tok := w.grant(target)
			w.store.plan(works, notDone)
			w.sources[name].plan("revoke", notDone, notDone)
			_, err := w.redeem(target, tok)
			refusedAs(t, err, cred.Unavailable, "OUTCOME_NOT_RECORDED")
			w.wantState(w.lease(g.ID), cred.LeaseRevoking)
			w.wantLive(name, 1)
			w.check()
			w.clock.advance(time.Second)
			w.sweep()
			w.wantState(w.lease(g.ID), cred.LeaseRevoked)
			w.wantLive(name, 0)
			if strings.Contains(w.log.String(), "s3cret") {
				t.Error("the log of the process holds the credential")
			}
		})
	}
}

// An issuer that answers long after its time finds its intent settled; what it made is taken back.
func TestLateIssuer(t *testing.T) {
	for target, want := range map[string]cred.LeaseState{"db": cred.LeaseRevoked, "plain": cred.LeaseUnknown} {
		w := newWorld(t)
		g, tok := w.grant(target)
		name := sourceOf(target)
		w.sources[name].during = func(_ issuer.Spec, minted bool) {
			if minted {
				w.clock.advance(20 * time.Second)
				w.sweep()
			}
		}
		_, err := w.redeem(target, tok)
		refusedAs(t, err, cred.Unavailable, "OUTCOME_NOT_RECORDED")
		w.wantState(w.lease(g.ID), want)
		w.wantLive(name, 0)
		w.check()
	}
}

// A source that can't say by the handle alone whether it ended the credential leaves the lease
// unknown, not revoked.
func TestUnsureSource(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("sts")
	w.sources["sts"].plan("issue", doneLost)
	if _, err := w.redeem("sts", tok); cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("got %v", err)
	}
	l := w.lease(g.ID)
	w.wantState(l, cred.LeaseUnknown)
	w.wantLive("sts", 1)
	if l.Note != "the source may keep this one until its end" {
		t.Errorf("the lease says %q", l.Note)
	}
	w.clock.advance(15 * time.Minute)
	w.sweep()
	w.wantState(w.lease(g.ID), cred.LeaseExpired)
	w.wantLive("sts", 0)
}

// An issuer that reserved a handle need not repeat it.
func TestReservedHandleStays(t *testing.T) {
	w := newWorld(t)
	w.sources["vault"].terse = true
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	_, leases, err := w.Revoke(t.Context(), runner, g.ID, "")
	w.must(err)
	w.wantState(leases[0], cred.LeaseRevoked)
	w.wantLive("vault", 0)
}
