package vault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// Vault needs ten minutes to give up on a lease; the lease and its failure are real here, and only the
// list of those that Vault has given up on is a front's, in the form and words of Vault 1.21 after 642 s.
func (w *world) testIrrevocable(t *testing.T) {
	w.Write(t, "database/roles/stuck", peers.Data{
		"db_name": "pg", "default_ttl": "1h",
		"creation_statements":   []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}';`},
		"revocation_statements": []string{`SELECT 1/0;`},
	})
	front := issuertest.NewFront(t, w.URL)
	cfg := w.config()
	cfg.Address = front.URL
	iss := newIssuer(t, cfg)
	s := spec(in(10 * time.Minute))
	s.Target.Credential.Path = "database/creds/stuck"
	c, l := w.issue(t, iss, s)
	var h struct{ Lease string }
	if err := json.Unmarshal([]byte(l.Handle), &h); err != nil {
		t.Fatal(err)
	}
	reserved := cred.Lease{Handle: strings.Split(l.Handle, `,"lease"`)[0] + "}"}
	given := func(leases ...string) http.Handler {
		var list []string
		for _, id := range leases {
			list = append(list, fmt.Sprintf(`{"lease_id":%q,"mount_id":"database_1","error":"out of retries: failed to revoke entry: resp: (*logical.Response)(nil) err: unable to delete user: ERROR: division by zero at postgresql://vault:hidden@db.example.com"}`, id))
		}
		return answer(fmt.Sprintf(`{"data":{"lease_count":%d,"leases":[%s]}}`, len(list), strings.Join(list, ",")))
	}
	for name, tc := range map[string]struct {
		by    cred.Lease
		leave http.Handler
		want  cred.Kind
	}{
		"Vault still tries":                {l, given(), cred.Unavailable},
		"Vault has given up on others":     {l, given("database/creds/stuck/other"), cred.Unavailable},
		"the broker may not ask":           {l, trouble(403, "1 error occurred:\n\t* permission denied\n\n", ""), cred.Unavailable},
		"Vault has given up":               {l, given("database/creds/stuck/other", h.Lease), cred.Invalid},
		"Vault has given up after a crash": {reserved, given(h.Lease), cred.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			front.Answer(100, func(r *http.Request) bool {
				return r.URL.Path == "/v1/sys/leases" && r.URL.Query().Get("type") == "irrevocable"
			}, tc.leave)
			err := iss.Revoke(t.Context(), tc.by)
			if cred.KindOf(err) != tc.want || err == nil {
				t.Fatalf("%v, want kind %v", err, tc.want)
			}
			e, _ := errors.AsType[*cred.Error](err)
			if up := tc.want == cred.Invalid; (e.Reason == "LEASE_IRREVOCABLE") != up || strings.Contains(e.Public, "vault read sys/leases type=irrevocable") != up {
				t.Errorf("reason %q, public %q", e.Reason, e.Public)
			}
			if text := fmt.Sprintf("%s %v", e.Public, err); strings.Contains(text, "hidden") || strings.Contains(text, "division") {
				t.Errorf("the source's words are passed on: %s", text)
			}
		})
	}
	front.Answer(0, nil, nil)
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("the credential was to be stuck and is gone: %v", err)
	}
	w.Write(t, "database/roles/stuck", peers.Data{"db_name": "pg", "revocation_statements": []string{}}) // mended
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Errorf("after the source was mended: %v", err)
	}
	if err := w.works(t.Context(), c); err == nil {
		t.Error("the user can sign in")
	}
}
