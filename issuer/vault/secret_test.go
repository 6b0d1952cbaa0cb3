package vault_test

import (
	"errors"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
)

func (w *world) testSecret(t *testing.T) {
	w.KV(t, "apps/mail", peers.Data{"token": "one", "port": 25, "empty": ""})
	w.KV(t, "apps/mail", peers.Data{"token": "two"})
	iss := newIssuer(t, w.config())
	for _, tc := range []struct {
		path, field, want string
		kind              cred.Kind
	}{
		{"secret/data/apps/mail", "token", "two", cred.Internal},
		{"secret/apps/mail", "token", "two", cred.Internal},
		{"secret/data/apps/mail?version=1", "token", "one", cred.Internal},
		{"secret/apps/mail?version=1", "port", "25", cred.Internal},
		{"secret/apps/mail?version=1", "empty", "", cred.Invalid},
		{"secret/apps/mail?version=9", "token", "", cred.Invalid},
		{"secret/apps/mail?version=0", "token", "", cred.Invalid},
		{"secret/apps/mail?version=", "token", "", cred.Invalid},
		{"secret/apps/mail?version=1&version=2", "token", "", cred.Invalid},
		{"secret/apps/mail?list=true", "token", "", cred.Invalid},
		{"secret/apps/mail?", "token", "", cred.Invalid},
		{"secret/apps/mail", "none", "", cred.Invalid},
		{"secret/apps/none", "token", "", cred.Invalid},
		{"secret/../sys/seal", "token", "", cred.Invalid},
		{path, "password", "", cred.Invalid}, // reading it would mint
		{"nosuch/apps/mail", "token", "", cred.Invalid},
	} {
		got, err := iss.Secret(t.Context(), tc.path, tc.field)
		if (err == nil) != (tc.kind == cred.Internal) || cred.KindOf(err) != tc.kind || got.RevealString() != tc.want {
			t.Errorf("%s#%s: %d bytes, %v, want kind %v", tc.path, tc.field, len(got.Reveal()), err, tc.kind)
		}
	}
	w.wantAlive(t, 0)
}

func TestSecretAnswers(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET sys/internal/ui/mounts/old/x", answer(`{"data":{"path":"old/","type":"kv","options":{"version":"1"}}}`))
	f.handle("GET old/x", answer(`{"lease_duration":2764800,"data":{"f":"v1"}}`))
	iss := newIssuer(t, f.config())
	if got, err := iss.Secret(t.Context(), "old/x", "f"); err != nil || got.RevealString() != "v1" {
		t.Errorf("version 1: %v", err)
	}
	for code, notIssued := range map[int]bool{403: true, 503: true, 404: false} {
		f.handle("GET old/x", status(code, `{"errors":[]}`))
		_, err := iss.Secret(t.Context(), "old/x", "f")
		if err == nil || errors.Is(err, issuer.ErrNotIssued) != notIssued || (cred.KindOf(err) == cred.Unavailable) != notIssued {
			t.Errorf("%d: %v", code, err)
		}
	}
	// Where Vault does not say what a path is, nothing is read there.
	f.handle("GET sys/internal/ui/mounts/closed/data/x", status(403, `{"errors":["preflight capability check returned 403"]}`))
	if _, err := iss.Secret(t.Context(), "closed/data/x", "f"); cred.KindOf(err) != cred.Invalid || f.count("GET closed") != 0 {
		t.Errorf("%v, asked %q", err, f.seen)
	}
}
