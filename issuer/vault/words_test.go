package vault_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/vault"
)

// newRootPassword is what Vault makes of every new password, by a policy of the test.
var newRootPassword = strings.Repeat("Q", 24)

// A database quotes a statement that has a mistake, with the new password in it. Vault passes that on, and
// the broker does not: neither to people nor into its own log.
func TestSourcesWordsStayAtVault(t *testing.T) {
	t.Parallel()
	w := newRootWorld(t)
	w.Policy(t, "rotator", rootPolicy+`
path "database/rotate-root/*" { capabilities = ["update"] }
path "database/config/*" { capabilities = ["read"] }
path "database/creds/*" { capabilities = ["read"] }
`)
	w.Write(t, "sys/policies/password/known", peers.Data{"policy": `length = 24
rule "charset" { charset = "Q" }`})
	const unquoted, told = `ALTER ROLE "{{name}}" WITH PASSWORD {{password}} ;`, `DO $$ BEGIN RAISE EXCEPTION 'no luck with {{password}}'; END $$`
	for name, statement := range map[string]string{"unquoted": unquoted, "told": told, "open": `ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}`} {
		t.Run(name, func(t *testing.T) {
			w.connect(t, name, peers.Data{"password_policy": "known", "root_rotation_statements": []string{statement}})
			w.Write(t, "database/static-roles/billing", peers.Data{
				"db_name": "pg", "username": "billing", "rotation_period": "24h", "rotation_statements": []string{statement},
			})
			w.Write(t, "database/config/pg", peers.Data{"password_policy": "known"})
			w.Write(t, "database/roles/"+name, peers.Data{"db_name": name, "default_ttl": "1h", "creation_statements": []string{statement}})
			made, err := w.Client.Logical().ReadWithContext(t.Context(), "database/creds/"+name)
			if err == nil || !strings.Contains(err.Error(), newRootPassword) {
				t.Fatalf("Vault does not tell the password, so nothing can be seen here: %v, %v", made, err)
			}
			for _, cfg := range []vault.RootConfig{
				{Path: "database/rotate-root/" + name, Verify: ordersRoot.Verify},
				{Path: "database/rotate-role/billing", Verify: vault.VerifyConfig{Probe: w.probe}},
			} {
				_, err := w.rotator(t, w.URL, cfg).Switch(t.Context(), issuer.Rotation{ID: "rot-words", Attempt: 1, Began: time.Now()})
				wantNoWords(t, err)
				if !strings.Contains(cred.PublicText(err), "(status 500; Vault's audit log says why)") || !strings.Contains(err.Error(), "SQLSTATE") {
					t.Errorf("the rotation of %s: %v", cfg.Path, err)
				}
			}
			found := finding(t, w.rotator(t, w.URL, vault.RootConfig{Path: "database/rotate-root/orders", Verify: vault.VerifyConfig{Path: "database/creds/orders-ro"}}), "fresh credential")
			if !found.OK {
				t.Errorf("the others' root: %+v", found)
			}
			_, err = w.rotator(t, w.URL, vault.RootConfig{Path: "database/rotate-root/orders", Verify: vault.VerifyConfig{Path: "database/creds/" + name}}).
				Check(t.Context(), issuer.Rotation{ID: "rot-words", Attempt: 1})
			wantNoWords(t, err)
		})
	}
}

// Vault's own words are for the operator, and nobody's where they may be the source's.
func TestWordsOfARefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		path    string
		answer  http.HandlerFunc
		logged  bool
		andSays string
	}{
		"refused":              {"database/rotate-root/pg", status(400, `{"errors":["no connection\nnamed pg"]}`), true, "no connection named pg"},
		"long":                 {"database/rotate-root/pg", status(400, `{"errors":["no connection `+strings.Repeat("x", 500)+`"]}`), true, "x…"},
		"failed":               {"database/rotate-root/pg", status(500, `{"errors":["no connection (SQLSTATE 42601)"]}`), false, "status 500, SQLSTATE 42601, Vault's audit log"},
		"a role named login":   {"database/rotate-role/login", status(500, `{"errors":["no connection"]}`), false, "Vault's audit log"},
		"something in between": {"database/rotate-root/pg", status(502, `<html>no connection</html>`), false, "Vault's audit log"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("PUT "+tc.path, tc.answer)
			x, err := newIssuer(t, f.config()).RootRotator(vault.RootConfig{Path: tc.path, Engine: "database", Verify: vault.VerifyConfig{Path: "database/creds/r"}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = x.Switch(t.Context(), issuer.Rotation{ID: "rot-words", Attempt: 1})
			if err == nil || strings.Contains(cred.PublicText(err), "no connection") {
				t.Fatalf("people are told %q", cred.PublicText(err))
			}
			if strings.Contains(err.Error(), "no connection") != tc.logged || !strings.Contains(err.Error(), tc.andSays) {
				t.Errorf("logged is %q", err)
			}
		})
	}
}

func wantNoWords(t *testing.T, err error) {
	t.Helper()
	if cred.KindOf(err) != cred.Unavailable {
		t.Errorf("%v, want kind unavailable", err)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if _, ours := errors.AsType[*cred.Error](err); !ours {
			return // what Vault's library made of the answer: nobody prints it by itself
		}
		if text := fmt.Sprintf("%v %+v %s", err, err, cred.PublicText(err)); strings.Contains(text, "QQ") {
			t.Errorf("the new password is told: %s", text)
		}
	}
}
