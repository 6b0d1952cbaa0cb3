package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// What an engine may have made without a lease is never said to be revoked, and its end is told where it
// may be later than the grant's.
func TestRevokeAfterALostAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		path, engine string
		ttl          string        // of the target
		end          bool          // it surely ends with its token
		life         time.Duration // from when it is made; zero: as long as the grant
	}{
		"database":                   {"database/creds/r", "database", "", true, 0},
		"rabbitmq":                   {"team/rabbit/creds/r", "rabbitmq", "", true, 0},
		"database, static role":      {"database/static-creds/r", "database", "", false, 0},
		"ldap, static role":          {"ldap/static-cred/creds/r", "ldap", "", false, 0},
		"mounted below another name": {"creds/static-creds/r", "database", "", false, 0},
		"pki":                        {"pki/issue/r", "pki", "", false, 0},
		"pki, longer than asked":     {"pki/issue/r", "pki", "90m", false, 90 * time.Minute},
		"pki, in days":               {"pki/issue/r", "pki", "2d", false, 48 * time.Hour},
		"pki, beyond all bounds":     {"pki/issue/r", "pki", "9223372036854775807", false, 100 * 365 * 24 * time.Hour},
		"pki, less than asked":       {"pki/issue/r", "pki", "1m", false, 0},
		"pki, not understood":        {"pki/issue/r", "pki", "soon", false, 0},
		"ssh, in seconds":            {"ssh/issue/r", "ssh", "3600", false, time.Hour},
		"ssh, one-time password":     {"ssh/creds/r", "ssh", "", true, 0},
		"aws":                        {"aws/sts/r", "aws", "", false, 15 * time.Minute},
		"aws, longer than asked":     {"aws/sts/r", "aws", "1h", false, time.Hour},
		"kubernetes":                 {"kubernetes/creds/r", "kubernetes", "", false, 10 * time.Minute},
		"google cloud":               {"gcp/roleset/r/token", "gcp", "", false, 12 * time.Hour},
		"not known":                  {"x/creds/r", "x", "", false, 0},
		"may not be asked":           {"x/creds/r", "", "", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("PUT "+tc.path, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // it may be made
			s := source(tc.path, tc.engine, map[string]string{"method": "write"})
			if tc.ttl != "" {
				s.Target.Credential.Params["ttl"] = tc.ttl
			}
			s.NotAfter = in(5 * time.Minute)
			iss := newIssuer(t, f.config())
			var err error
			if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, _, err := iss.Issue(t.Context(), s); cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
				t.Fatalf("Issue: %v", err)
			}
			err = iss.Revoke(t.Context(), cred.Lease{Handle: s.Handle})
			if tc.end != (err == nil) || err != nil && cred.KindOf(err) != cred.Invalid {
				t.Fatalf("Revoke: %v, want an end %v", err, tc.end)
			}
			if f.count("PUT auth/token/revoke-accessor") != 1 {
				t.Error("the lease's token was not revoked")
			}
			lives, want := time.Until(issuer.LivesUntil(err)), max(tc.life, 5*time.Minute)+2*time.Minute // which Vault may take
			if err != nil && (lives > want || lives < want-5*time.Second) {
				t.Errorf("it may live for %v, want %v", lives, want)
			}
			if known := slices.Contains([]string{"pki", "ssh", "aws", "kubernetes", "gcp"}, tc.engine); err != nil && strings.Contains(cred.PublicText(err), "does not know") == known {
				t.Errorf("of an end that it knows %v it says %q", known, cred.PublicText(err))
			}
		})
	}
}

// While Vault does not answer, what a reservation made may live on, but no longer than it could have been
// made.
func TestRevokeWhileVaultIsAwayTellsTheEnd(t *testing.T) {
	f := newFake(t, false)
	f.handle("PUT auth/token/revoke-accessor", status(503, `{"errors":["sealed"]}`))
	iss := newIssuer(t, f.config())
	over := in(-time.Hour)
	for engine, want := range map[string]time.Time{"aws": over.Add(17 * time.Minute), "database": {}} {
		h := fmt.Sprintf(`{"v":1,"accessor":"ca","path":"%s/creds/r","engine":%q,"end":%d}`, engine, engine, over.Unix())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := iss.Revoke(ctx, cred.Lease{Handle: h})
		cancel()
		if cred.KindOf(err) != cred.Unavailable || issuer.LivesUntil(err).Unix() != want.Unix() {
			t.Errorf("%s: %v, it may live until %v, want %v", engine, err, issuer.LivesUntil(err), want)
		}
	}
}

// A handle of an earlier form, without the life that was asked for, is as good as one of today.
func TestRevokeByEarlierHandles(t *testing.T) {
	f := newFake(t, false)
	iss := newIssuer(t, f.config())
	for handle, want := range map[string]cred.Kind{ // Internal: success
		`{"v":1,"accessor":"ca","path":"database/creds/r","engine":"database"}`:                                 cred.Internal,
		`{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","end":7}`:                               cred.Internal,
		`{"v":1,"accessor":"ca","path":"pki/issue/r","engine":"pki","end":7}`:                                   cred.Invalid,
		`{"v":1,"accessor":"ca","path":"pki/issue/r","engine":"pki","end":7,"lease":"pki/issue/r/1"}`:           cred.Internal,
		`{"v":1,"accessor":"ca","path":"aws/creds/r","engine":"aws","end":7}`:                                   cred.Invalid,
		`{"v":1,"accessor":"ca","path":"aws/creds/r","engine":"aws","end":7,"lease":"aws/creds/r/1"}`:           cred.Internal,
		`{"v":1,"accessor":"ca","path":"x/y","engine":""}`:                                                      cred.Invalid,
		`{"v":1,"accessor":"ca","path":"aws/sts/r","engine":"aws","end":7,"lease":"aws/sts/r/1","stands":true}`: cred.Invalid,
	} {
		if err := iss.Revoke(t.Context(), cred.Lease{Handle: handle}); cred.KindOf(err) != want || (err == nil) != (want == cred.Internal) {
			t.Errorf("%s: %v, want kind %v", handle, err, want)
		}
	}
}

// What can't be used and can't be taken back is not said to have never been made.
func TestUnfitAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		path, engine, answer string
		none                 bool // nothing was made, or it was taken back
	}{
		"certificate":            {"pki/issue/r", "pki", `{"data":{"serial_number":"1","expiration":4000000000}}`, false},
		"nothing":                {"x/y", "x", ``, false},
		"of an unknown engine":   {"x/y", "x", `{"data":{"a":"b"}}`, false},
		"session":                {"aws/sts/r", "aws", `{"lease_id":"aws/sts/r/1","lease_duration":900,"data":{"access_key":"a","secret_key":"s","security_token":"t"}}`, false},
		"token of an account":    {"kubernetes/creds/r", "kubernetes", `{"lease_id":"kubernetes/creds/r/1","lease_duration":900,"data":{"service_account_name":"builder","service_account_token":"t"}}`, false},
		"user":                   {"database/creds/r", "database", `{"lease_id":"database/creds/r/1","lease_duration":900,"data":{"username":"u"}}`, true},
		"user of IAM":            {"aws/creds/r", "aws", `{"lease_id":"aws/creds/r/1","lease_duration":900,"data":{"access_key":"a","secret_key":"s","security_token":null}}`, true},
		"static role, only read": {"database/static-creds/r", "database", `{"data":{"username":"u","ttl":60,"rotation_period":60}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("PUT "+tc.path, answer(tc.answer))
			s := source(tc.path, tc.engine, map[string]string{"method": "write"})
			s.Target.Credential.Fields = map[string]string{"ours": "not there"}
			_, _, err := newIssuer(t, f.config()).Issue(t.Context(), s)
			e, _ := errors.AsType[*cred.Error](err)
			if err == nil || e.Reason != "FIELD_MISSING" || (e.Kind != cred.Unavailable) != tc.none {
				t.Errorf("%v, want that nothing was made %v", err, tc.none)
			}
		})
	}
}
