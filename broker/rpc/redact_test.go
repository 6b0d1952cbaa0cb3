package rpc_test

import (
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

// protobuf's Go runtime ignores debug_redact: whoever prints a message prints what is in it. So no
// message is ever printed: nothing that is secret stands in the log, at its most talkative, after
// every way in which secrets cross the wire, granted and refused, nor in the audit log.
func TestNoSecretIsLogged(t *testing.T) {
	w := newWorld(t, settings{})
	id := w.token("ann", "team")
	secrets := map[string]string{"ID token": id, "static secret": staticSecret}
	direct, err := w.as(id).Exchange(t.Context(), cred.Request{Target: "orders"})
	must(t, err)
	proxied, err := w.as(id).Exchange(t.Context(), cred.Request{Target: "api"})
	must(t, err)
	secrets["credential"] = direct.Credential.Fields["token"].RevealString()
	secrets["grant token"], secrets["proxied grant token"] = direct.Token.RevealString(), proxied.Token.RevealString()
	_, err = w.edge().Redeem(t.Context(), proxied.Token)
	must(t, err)

	forged := cred.SecretString(proxied.Token.RevealString() + "x")
	_, err = w.edge().Redeem(t.Context(), forged)
	wantError(t, err, cred.Unauthenticated, "TOKEN_MALFORMED")
	_, err = w.edge().Redeem(t.Context(), cred.SecretString(strings.Repeat("long-token", 2000)))
	wantError(t, err, cred.Invalid, "FIELD_INVALID")
	secrets["token that is too long"] = strings.Repeat("long-token", 2)
	_, err = w.as(id + "x").WhoAmI(t.Context())
	if err == nil {
		t.Error("a broken token is taken")
	}
	postForm(t, w, w.web(false), "/oauth/token", tokenForm(id, "orders"))
	postForm(t, w, w.web(false), "/oauth/token", tokenForm(id+"x", "orders"))
	postForm(t, w, w.web(false), "/oauth/revoke", map[string][]string{"token": {direct.Token.RevealString()}})

	logs := w.logs.String()
	if strings.Count(logs, "msg=call") < 8 {
		t.Errorf("the log is silent, so this test proves nothing: %s", logs)
	}
	size, err := w.raw.Log().Size()
	must(t, err)
	for e, err := range w.raw.Log().Entries(t.Context(), 0, size) {
		must(t, err)
		logs += string(e.Canonical)
	}
	for name, secret := range secrets {
		signature := secret[strings.LastIndex(secret, ".")+1:]
		if strings.Contains(logs, secret) || strings.Contains(logs, signature) {
			t.Errorf("the %s is in a log", name)
		}
	}
}
