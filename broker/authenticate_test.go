package broker

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

// idToken makes an ID token as of the world's clock.
func (w *world) idToken(subject string) string {
	now := w.now().Unix()
	claims := w.idp.PersonClaims(brokerURL, subject, "audit")
	claims["iat"], claims["exp"], claims["auth_time"] = now, now+600, now
	tok := w.idp.Sign(claims)
	w.tokens = append(w.tokens, tok)
	return tok
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	before := len(w.events())
	who, err := w.Authenticate(t.Context(), w.idToken("somebody"))
	w.must(err)
	if who.Subject != "somebody" || who.Provider != "people" || !w.HasRole(who.Principal, RoleAuditor) || w.HasRole(who.Principal, RoleSecurity) {
		t.Errorf("authenticated %+v", who)
	}
	if len(w.events()) != before {
		t.Error("a success left an entry of its own")
	}
}

// A refusal is on record with the token's fingerprint, and never with the token.
func TestAuthenticateRefuses(t *testing.T) {
	w := newWorld(t)
	good := w.idToken("somebody")
	w.clock.advance(time.Hour)
	stale := good
	for _, test := range []struct{ tok, reason, claim string }{
		{stale, "TOKEN_EXPIRED", "exp"},
		{w.idToken("x") + "x", "", ""},
		{"no token at all", "", ""},
		{"", "", ""},
	} {
		_, err := w.Authenticate(WithPeer(t.Context(), "192.0.2.1"), test.tok)
		if cred.KindOf(err) != cred.Unauthenticated {
			t.Fatalf("got %v", err)
		}
		e := w.lastOf(audit.IdentityRefused)
		if e.Detail["token_fingerprint"] != cred.SecretString(test.tok).Fingerprint().String() || e.Peer != "192.0.2.1" || e.Error.Kind != "unauthenticated" {
			t.Errorf("recorded %+v", e)
		}
		if test.reason != "" && (e.Error.Reason != test.reason || e.Detail["claim"] != test.claim) {
			t.Errorf("recorded %+v, %v", e.Error, e.Detail)
		}
	}
	w.store.plan(notDone)
	_, err := w.Authenticate(t.Context(), stale)
	refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
	if strings.Contains(w.file(), stale) {
		t.Error("the file holds the token")
	}
}

func TestAuthenticateGrant(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("api")
	if !w.IssuedByUs(tok) || w.IssuedByUs(w.idToken("x")) || w.IssuedByUs("x") {
		t.Error("IssuedByUs is wrong")
	}
	who, id, err := w.AuthenticateGrant(t.Context(), tok)
	w.must(err)
	if !who.Same(runner) || id != g.ID {
		t.Errorf("authenticated %v, %s", who, id)
	}
	for name, bad := range map[string]struct {
		tok  string
		kind cred.Kind
	}{
		"changed":       {tok[:len(tok)-4] + "AAAA", cred.Unauthenticated},
		"an ID token":   {w.idToken("x"), cred.Unauthenticated},
		"no such grant": {w.signed("gr_0"), cred.NotFound},
	} {
		_, _, err := w.AuthenticateGrant(t.Context(), bad.tok)
		if err == nil || cred.KindOf(err) != bad.kind {
			t.Errorf("%s: %v", name, err)
		}
		if e := w.lastOf(audit.IdentityRefused); e.Detail["token_fingerprint"] != cred.SecretString(bad.tok).Fingerprint().String() {
			t.Errorf("%s: recorded %+v", name, e)
		}
	}
	w.clock.advance(16 * time.Minute)
	_, _, err = w.AuthenticateGrant(t.Context(), tok)
	refusedAs(t, err, cred.Unauthenticated, "TOKEN_EXPIRED")
}

// signed makes a token of ours for a grant that was never made.
func (w *world) signed(id cred.GrantID) string {
	w.t.Helper()
	tok, err := w.keys.Sign(token.Claims{
		Issuer: brokerURL, Subject: "x", Audience: []string{token.Audience("db")}, ClientID: "ci", IssuedAt: w.now(),
		NotBefore: w.now(), ExpiresAt: w.now().Add(time.Minute), ID: "jti", Grant: token.GrantClaims{ID: id, Target: "db"},
	})
	w.must(err)
	w.tokens = append(w.tokens, tok)
	return tok
}

func TestRefusedAndUnidentified(t *testing.T) {
	w := newWorld(t)
	refusedAs(t, w.Refused(t.Context(), nosy, "audit.export"), cred.Denied, "ROLE_MISSING")
	if e := w.lastOf(audit.AccessDenied); e.Principal.Subject != "nosy" || e.Detail["call"] != "audit.export" {
		t.Errorf("recorded %+v", e)
	}
	why := cred.Errorf(cred.Unauthenticated, "x", "show a token", "none")
	if err := w.RefuseUnidentified(t.Context(), "Exchange", why); err != error(why) {
		t.Errorf("got %v", err)
	}
	if e := w.lastOf(audit.IdentityRefused); e.Detail["call"] != "Exchange" || e.Error.Public != "show a token" {
		t.Errorf("recorded %+v", e)
	}
	w.store.plan(notDone, notDone)
	refusedAs(t, w.Refused(t.Context(), nosy, "x"), cred.Unavailable, "NOT_RECORDED")
	refusedAs(t, w.RefuseUnidentified(t.Context(), "x", why), cred.Unavailable, "NOT_RECORDED")
}

// TestFloodOfStrangers: everybody is refused, and what is written is bounded and says what it leaves out.
func TestFloodOfStrangers(t *testing.T) {
	w := newWorld(t)
	const calls = strangersBurst + 300
	why := cred.Errorf(cred.Unauthenticated, "x", "show a token", "none")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range calls / 20 {
				if err := w.RefuseUnidentified(t.Context(), "Exchange", why); err != error(why) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
	all.Wait()
	recorded := 0
	for _, e := range w.events() {
		if e.Kind == audit.IdentityRefused {
			recorded++
		}
	}
	if recorded != strangersBurst {
		t.Errorf("%d of %d refusals are recorded, want %d", recorded, calls, strangersBurst)
	}
	w.clock.advance(time.Second)
	_ = w.RefuseUnidentified(t.Context(), "Exchange", why)
	if got := w.lastOf(audit.IdentityRefused).Detail["unrecorded_before"]; got != float64(calls-strangersBurst) {
		t.Errorf("the next entry says that %v were left out, want %d", got, calls-strangersBurst)
	}
}
