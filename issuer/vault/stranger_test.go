package vault_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// strangers are answers of what stands before Vault, and has lost it.
var strangers = map[string]http.HandlerFunc{
	"ingress without a backend": status(404, "default backend - 404\n"),
	"gateway without a route":   status(404, `{"message":"no Route matched with those values","request_id":"a1"}`),
	"gateway's own errors":      status(404, `{"errors":[{"status":"404","title":"Not Found"}]}`),
	"bad request, as a page":    status(400, `<html><h1>400 Bad Request</h1></html>`),
	"firewall":                  status(403, `<html>blocked</html>`),
	"nothing":                   status(404, ``),
	"page to sign in":           status(200, `<html>please sign in</html>`),
	"success of something else": status(200, `{"ok":true}`),
	"success without a body":    status(200, ``),
	"success that is an error":  status(200, `{"errors":["not found"]}`),
	"limits of a load balancer": status(429, `slow down`),
}

// An answer that Vault did not give ends nothing, lists nothing and renews nothing.
func TestStrangersAreNotBelieved(t *testing.T) {
	lease := cred.Lease{Handle: `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","end":4000000000,"lease":"db/creds/r/1"}`}
	reserved := cred.Lease{Handle: `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","end":4000000000}`}
	acts := map[string]func(ctx context.Context, i issuer.Lister) error{
		"Revoke":                func(ctx context.Context, i issuer.Lister) error { return i.(issuer.Issuer).Revoke(ctx, lease) },
		"Revoke by reservation": func(ctx context.Context, i issuer.Lister) error { return i.(issuer.Issuer).Revoke(ctx, reserved) },
		"Renew": func(ctx context.Context, i issuer.Lister) error {
			_, err := i.(issuer.Renewer).Renew(ctx, lease, in(time.Hour))
			return err
		},
		"Live": func(ctx context.Context, i issuer.Lister) error {
			names, err := i.Live(ctx)
			if len(names) > 0 {
				err = nil
			}
			return err
		},
	}
	// Everything is a stranger's, or one request alone is, at which it would be believed.
	where := map[string][]string{
		"Revoke":                {"", "PUT sys/leases/revoke", "PUT auth/token/revoke-accessor"},
		"Revoke by reservation": {"", "PUT auth/token/revoke-accessor", "GET sys/leases/lookup/db/creds/r", "PUT sys/leases/lookup"},
		"Renew":                 {"", "PUT sys/leases/renew"},
		"Live":                  {"", "GET sys/leases/lookup/db/creds/r"},
	}
	for name, stranger := range strangers {
		for act, do := range acts {
			for _, at := range where[act] {
				t.Run(name+"/"+act+"/"+at, func(t *testing.T) {
					t.Parallel()
					f := newFake(t, false)
					f.handle("GET sys/internal/ui/mounts/db/creds/r", answer(`{"data":{"path":"db/","type":"database"}}`))
					f.handle("GET sys/leases/lookup/db/creds/r", answer(`{"data":{"keys":["1"]}}`))
					cfg := f.config()
					cfg.Paths = []string{"db/creds/r"}
					iss := newIssuer(t, cfg)
					if err := iss.Check(t.Context()); cred.KindOf(err) == cred.Internal && err != nil { // signs in
						t.Fatal(err)
					}
					if at == "" {
						f.all(stranger)
					} else {
						f.handle(at, stranger)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					defer cancel()
					if err := do(ctx, iss); cred.KindOf(err) != cred.Unavailable {
						t.Errorf("%v, want kind unavailable", err)
					}
				})
			}
		}
	}
}

// What was to be minted may have been, whatever a stranger says.
func TestStrangersDoNotSayThatNothingWasMade(t *testing.T) {
	for name, stranger := range strangers {
		f := newFake(t, false)
		f.handle("GET db/creds/r", stranger)
		_, _, err := newIssuer(t, f.config()).Issue(t.Context(), source("db/creds/r", "database", nil))
		if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("%s: %v, want kind unavailable, perhaps issued", name, err)
		}
		if n := f.count("GET db/creds/r"); n != 1 {
			t.Errorf("%s: the request that mints was sent %d times", name, n)
		}
	}
}
