package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/vault"
)

// rootPolicy is what docs/rotation/vault.md says that the rotation of a database's root needs, and no
// more, and that of the lookups that Check does where it may.
const rootPolicy = `
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/database/creds/*" { capabilities = ["list", "sudo"] }
path "database/creds/orders-ro" { capabilities = ["read"] }
path "database/rotate-root/orders" { capabilities = ["update"] }
path "database/config/orders" { capabilities = ["read"] }
path "database/reset/orders" { capabilities = ["update"] }
path "database/rotate-role/billing" { capabilities = ["update"] }
path "database/static-roles/billing" { capabilities = ["read"] }
path "database/static-creds/billing" { capabilities = ["read"] }
`

// rootWorld is a world whose database has a root user of its own for Vault, and a user of a static role.
type rootWorld struct{ *world }

func newRootWorld(t *testing.T) *rootWorld {
	w := &rootWorld{newWorld(t)}
	for _, sql := range []string{
		`CREATE ROLE vaultroot WITH LOGIN SUPERUSER PASSWORD 'first-root-password'`,
		`CREATE ROLE billing WITH LOGIN PASSWORD 'first-billing-password'`,
	} {
		if err := w.pg.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.connect(t, "orders", nil)
	w.Write(t, "database/roles/orders-ro", peers.Data{
		"db_name": "orders", "default_ttl": "1h",
		"creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`},
	})
	w.Write(t, "database/static-roles/billing", peers.Data{
		"db_name": "pg", "username": "billing", "rotation_period": "24h",
		"rotation_statements": []string{`ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}';`},
	})
	w.Policy(t, "rotator", rootPolicy)
	w.JWTRole(t, "jwt", "rotator", "vault", []string{"rotator"}, nil)
	return w
}

// connect makes a connection to the database as vaultroot; more adds to it.
func (w *rootWorld) connect(t *testing.T, name string, more peers.Data) {
	t.Helper()
	data := peers.Data{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/" + w.pg.Database + "?sslmode=disable",
		"username":       "vaultroot", "password": "first-root-password", "allowed_roles": []string{"*"},
	}
	for key, value := range more {
		data[key] = value
	}
	w.Write(t, "database/config/"+name, data)
}

func (w *rootWorld) rotatorConfig(baseURL string) vault.Config {
	cfg := w.config()
	cfg.Address, cfg.JWT.Role, cfg.Paths = baseURL, "rotator", nil
	return cfg
}

func (w *rootWorld) rotator(t *testing.T, baseURL string, cfg vault.RootConfig) issuer.Rotator {
	t.Helper()
	x, err := newIssuer(t, w.rotatorConfig(baseURL)).RootRotator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

var ordersRoot = vault.RootConfig{Path: "database/rotate-root/orders", Verify: vault.VerifyConfig{Path: "database/creds/orders-ro"}}

// hash returns what PostgreSQL keeps of a user's password.
func (w *rootWorld) hash(ctx context.Context, user string) (text string, err error) {
	conn, err := pgx.Connect(ctx, w.pg.URL(w.pg.User, w.pg.Password))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "select rolpassword from pg_authid where rolname = $1", user).Scan(&text)
	return text, err
}

// mints proves as Vault's administrator that the root in use works. Vault closes its connections when it
// rotates a root.
func (w *rootWorld) mints(ctx context.Context) error {
	made, err := w.Client.Logical().ReadWithContext(ctx, "database/creds/orders-ro")
	if err != nil {
		return err
	}
	err = w.pg.Login(ctx, made.Data["username"].(string), made.Data["password"].(string))
	return errors.Join(err, w.Client.Sys().RevokeWithOptionsWithContext(ctx, &api.RevokeOptions{LeaseID: made.LeaseID, Sync: true}))
}

func (w *rootWorld) probe(ctx context.Context, c cred.Credential) error { return w.works(ctx, c) }

func one(context.Context) (int, error) { return 1, nil }

func TestRotateRoots(t *testing.T) {
	t.Parallel()
	w := newRootWorld(t)
	t.Run("database root", w.testDatabaseRoot)
	t.Run("static role", w.testRotateStaticRole)
	t.Run("connections", w.testCheckLeavesConnections)
	t.Run("findings", w.testRootFindings)
	t.Run("lost answers", w.testLostRotation)
	t.Run("nothing is left", func(t *testing.T) {
		left, err := w.Leases(t.Context(), "database/creds/orders-ro")
		if err != nil || len(left) != 0 {
			t.Errorf("left are the leases %q, %v", left, err)
		}
	})
}

func (w *rootWorld) testDatabaseRoot(t *testing.T) {
	cfg := ordersRoot
	cfg.Verify.Probe = w.probe
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New:    func(t *testing.T, baseURL string) issuer.Rotator { return w.rotator(t, baseURL, cfg) },
		Source: w.URL, NoWayBack: true, Works: w.mints, Alive: one,
		Root: func(ctx context.Context) (string, error) { return w.hash(ctx, "vaultroot") },
	})
}

// Check leaves alone the connections by which Vault mints for everybody; Verify has them made anew, since
// those of before were let in under the old password.
func (w *rootWorld) testCheckLeavesConnections(t *testing.T) {
	connections := func() (pids []int32) {
		conn, err := pgx.Connect(t.Context(), w.pg.URL(w.pg.User, w.pg.Password))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(t.Context()) }()
		rows, err := conn.Query(t.Context(), "select pid from pg_stat_activity where usename = 'vaultroot' order by pid")
		if err == nil {
			pids, err = pgx.CollectRows(rows, pgx.RowTo[int32])
		}
		if err != nil {
			t.Fatal(err)
		}
		return pids
	}
	if err := w.mints(t.Context()); err != nil {
		t.Fatal(err)
	}
	front := issuertest.NewFront(t, w.URL)
	var resets atomic.Int32
	front.Answer(1, func(r *http.Request) bool {
		if r.URL.Path == "/v1/database/reset/orders" {
			resets.Add(1)
		}
		return false
	}, nil)
	x := w.rotator(t, front.URL, ordersRoot)
	before := connections()
	if f := finding(t, x, "fresh credential"); !f.OK {
		t.Errorf("%+v", f)
	}
	after := connections()
	if len(before) == 0 || slices.ContainsFunc(before, func(pid int32) bool { return !slices.Contains(after, pid) }) {
		t.Errorf("before Check Vault had the connections %v, after it %v", before, after)
	}
	if n := resets.Load(); n != 0 {
		t.Errorf("Check reset the connections %d times", n)
	}
	r, err := x.Switch(t.Context(), issuer.Rotation{ID: "rot-conn", Attempt: 1, Began: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Verify(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := resets.Load(); n != 1 {
		t.Errorf("Verify reset the connections %d times, want once", n)
	}
}

func (w *rootWorld) testRotateStaticRole(t *testing.T) {
	password := func(ctx context.Context) (string, error) {
		read, err := w.Client.Logical().ReadWithContext(ctx, "database/static-creds/billing")
		if err != nil {
			return "", err
		}
		return read.Data["password"].(string), nil
	}
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(t *testing.T, baseURL string) issuer.Rotator {
			return w.rotator(t, baseURL, vault.RootConfig{Path: "database/rotate-role/billing", Verify: vault.VerifyConfig{Probe: w.probe}})
		},
		Source: w.URL, NoWayBack: true, Alive: one,
		Root: func(ctx context.Context) (string, error) { return w.hash(ctx, "billing") },
		Works: func(ctx context.Context) error {
			p, err := password(ctx)
			if err != nil {
				return err
			}
			return w.pg.Login(ctx, "billing", p)
		},
		Secrets: func(ctx context.Context) []string {
			p, err := password(ctx)
			if err != nil {
				return nil
			}
			return []string{p}
		},
	})
}

// finding returns what Check says under a name.
func finding(t *testing.T, x issuer.Rotator, name string) cred.Finding {
	t.Helper()
	found, err := x.Check(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no finding %q in %+v", name, found)
	return cred.Finding{}
}

func (w *rootWorld) testRootFindings(t *testing.T) {
	w.Policy(t, "wide", rootPolicy+`
path "database/config" { capabilities = ["list"] }
path "database/config/*" { capabilities = ["read"] }
path "database/+/*" { capabilities = ["read", "update"] }
path "secret/*" { capabilities = ["read"] }
`)
	w.JWTRole(t, "jwt", "wide", "vault", []string{"wide"}, nil)
	rotator := func(t *testing.T, role string, cfg vault.RootConfig) issuer.Rotator {
		c := w.rotatorConfig(w.URL)
		c.JWT.Role = role
		x, err := newIssuer(t, c).RootRotator(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	orders := vault.RootConfig{Path: "database/rotate-root/orders", Verify: ordersRoot.Verify}
	want := func(t *testing.T, f cred.Finding, ok bool, text string) {
		t.Helper()
		if f.OK != ok || !strings.Contains(f.Text, text) {
			t.Errorf("%s: OK %v, %q, want %v and %q", f.Name, f.OK, f.Text, ok, text)
		}
	}
	t.Run("healthy", func(t *testing.T) {
		x := rotator(t, "rotator", orders)
		want(t, finding(t, x, "vault"), true, "active")
		want(t, finding(t, x, "replication"), true, "none")
		want(t, finding(t, x, "nobody else uses it"), true, "may not list")
		c, l := w.issue(t, newIssuer(t, w.config()), spec(in(time.Minute)))
		want(t, finding(t, x, "live leases"), true, "1 leases live under database/creds")
		if err := newIssuer(t, w.config()).Revoke(t.Context(), l); err != nil || w.works(t.Context(), c) == nil {
			t.Error("the lease does not end:", err)
		}
	})
	t.Run("rights", func(t *testing.T) {
		x := rotator(t, "daypass", orders)
		want(t, finding(t, x, "rights"), false, `lacks update on "database/rotate-root/orders"`)
		want(t, finding(t, x, "configuration"), false, "does not allow")
		want(t, finding(t, x, "fresh credential"), false, "not tried")
	})
	t.Run("shared user", func(t *testing.T) {
		w.connect(t, "alsoorders", peers.Data{"verify_connection": false})
		want(t, finding(t, rotator(t, "wide", orders), "nobody else uses it"), false, "connections alsoorders use the same user")
		if _, err := w.Client.Logical().DeleteWithContext(t.Context(), "database/config/alsoorders"); err != nil {
			t.Fatal(err)
		}
		want(t, finding(t, rotator(t, "wide", orders), "nobody else uses it"), true, "no other connection of database has the same user")
	})
	t.Run("written out", func(t *testing.T) {
		w.connect(t, "literal", peers.Data{"verify_connection": false, "connection_url": "postgresql://vaultroot:first-root-password@" + w.pg.Addr() + "/postgres"})
		want(t, finding(t, rotator(t, "wide", vault.RootConfig{Path: "database/rotate-root/literal", Verify: ordersRoot.Verify}), "configuration"), false, "written out")
	})
	t.Run("no user", func(t *testing.T) {
		w.connect(t, "nouser", peers.Data{"verify_connection": false, "username": ""})
		want(t, finding(t, rotator(t, "wide", vault.RootConfig{Path: "database/rotate-root/nouser", Verify: ordersRoot.Verify}), "configuration"), false, "has no username")
	})
	t.Run("no such connection", func(t *testing.T) {
		want(t, finding(t, rotator(t, "wide", vault.RootConfig{Path: "database/rotate-root/nosuch", Verify: ordersRoot.Verify}), "configuration"), false, "knows no such path")
	})
	t.Run("probe", func(t *testing.T) {
		cfg := orders
		cfg.Verify.Probe = func(context.Context, cred.Credential) error { return errors.New("refused") }
		want(t, finding(t, rotator(t, "wide", cfg), "fresh credential"), false, "not accepted")
	})
	t.Run("no root of that kind", func(t *testing.T) {
		_, err := rotator(t, "wide", vault.RootConfig{Path: "secret/rotate-root/x", Verify: ordersRoot.Verify}).Check(t.Context(), issuer.Rotation{})
		if cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "mounted in Vault at secret") {
			t.Errorf("a key-value store's root: %v", err)
		}
	})
}

// A rotation that was done and whose answer was lost is done once more, so that its outcome is plain; a
// refusal meanwhile leaves it open.
func (w *rootWorld) testLostRotation(t *testing.T) {
	front := issuertest.NewFront(t, w.URL)
	x := w.rotator(t, front.URL, ordersRoot)
	r := issuer.Rotation{ID: "rot-2", Attempt: 1, Began: time.Now()}
	hash := func() string {
		text, err := w.hash(t.Context(), "vaultroot")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := hash()
	if _, err := x.Check(t.Context(), r); err != nil { // so that the next request is the one that counts
		t.Fatal(err)
	}
	front.Break(issuertest.DoneLost, 1)
	if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("a lost answer: %v", err)
	}
	second := hash()
	if second == first {
		t.Fatal("the rotation whose answer was lost was not done")
	}
	front.Break(issuertest.None, 0)
	deny := func(rq *http.Request) bool { return strings.HasPrefix(rq.URL.Path, "/v1/database/rotate-root") }
	front.Answer(1, deny, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(rw, `{"errors":["permission denied"]}`)
	}))
	r.Attempt = 2
	if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("refused in the second try, with the first one open: %v, want kind unavailable", err)
	}
	if hash() != second {
		t.Error("rotated although it was refused")
	}
	r.Attempt = 3
	r, err := x.Switch(t.Context(), r)
	if err != nil || hash() == second {
		t.Errorf("the third try: %v, rotated again: %v", err, hash() != second)
	}
	if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Undo after Switch: %v", err)
	}
	if err := w.mints(t.Context()); err != nil {
		t.Error(err)
	}
	deny = func(*http.Request) bool { return true }
	front.Answer(1, deny, trouble(http.StatusForbidden, "permission denied", ""))
	if _, err := x.Switch(t.Context(), issuer.Rotation{ID: "rot-3", Attempt: 1}); cred.KindOf(err) != cred.Denied {
		t.Errorf("refused in the first try: %v, want kind denied", err)
	}
}
