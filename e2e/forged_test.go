package e2e_test

import (
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// TestForgedTokens shows forged and mangled ID tokens to a real broker: each is refused with the
// right kind, and each refusal is in the log by the token's fingerprint.
func TestForgedTokens(t *testing.T) {
	c := newCluster(t)
	c.configure("")
	c.startBroker()
	forged, err := c.idp.Forge(c.url)
	if err != nil {
		t.Fatal(err)
	}
	sent := map[string]string{}
	for _, f := range forged {
		if !headerValue(f.Token) {
			continue // can't be sent at all: gRPC's metadata and HTTP's headers refuse it
		}
		_, err := c.as(f.Token).WhoAmI(t.Context())
		if got := cred.KindOf(err); err == nil || got != cred.Unauthenticated {
			t.Errorf("%s: %v, want unauthenticated", f.Name, err)
		}
		sent[cred.SecretString(f.Token).Fingerprint().String()] = f.Name
	}
	if len(sent) < 200 {
		t.Errorf("%d forged tokens were sent, want 200 at the least", len(sent))
	}
	for _, e := range c.export() {
		if e.Kind == audit.IdentityRefused {
			fingerprint, _ := e.Detail["token_fingerprint"].(string)
			delete(sent, fingerprint)
		}
	}
	for _, name := range sent {
		t.Errorf("%s: its refusal is not in the log", name)
	}
}

// headerValue reports whether a token can travel in a header at all, and arrives as it was sent:
// surrounding white space would not.
func headerValue(tok string) bool {
	if tok == "" || tok[0] == ' ' || tok[len(tok)-1] == ' ' || len(tok) > 512<<10 {
		return false
	}
	for _, r := range []byte(tok) {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}
