package vault_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const path = "database/creds/ro"

// briefPath is of a role whose leases end within seconds, unless they are renewed.
const briefPath = "database/creds/brief"

// policy is what the documentation of Check says the broker needs, and no more.
const policy = `
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create/orphans" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases" { capabilities = ["read", "sudo"] }
path "sys/leases/lookup/database/creds/*" { capabilities = ["list", "sudo"] }
path "sys/leases/lookup/pki/*" { capabilities = ["list", "sudo"] }
path "database/creds/*" { capabilities = ["read"] }
path "database/static-creds/*" { capabilities = ["read"] }
path "secret/data/*" { capabilities = ["read"] }
path "pki/*" { capabilities = ["update"] }
path "ssh/*" { capabilities = ["update"] }
path "sys/audit-hash/file" { capabilities = ["update"] }
path "signing/sign/app/sha2-256" { capabilities = ["update"] }
path "signing/sign/curve/sha2-256" { capabilities = ["update"] }
path "signing/sign/cipher/sha2-256" { capabilities = ["update"] }
path "signing/sign/nosuch/sha2-256" { capabilities = ["update"] }
`

// world is a Vault with a PostgreSQL behind it, and the broker's key that Vault trusts.
type world struct {
	*peers.VaultServer
	pg     *peers.PostgresServer
	signer jose.Signer
	jwks   string       // where the signer's key is served
	logins atomic.Int64 // how many identity tokens were signed
}

func newWorld(t testing.TB) *world {
	w := &world{pg: peers.Postgres(t), VaultServer: peers.Vault(t)}
	w.Database(t, w.pg)
	w.DatabaseRole(t, "ro", "1h", "24h")
	w.DatabaseRole(t, "brief", "3s", "24h")
	w.Policy(t, "daypass", policy)
	w.jwks = w.serveKeys(t)
	w.JWTAuth(t, "jwt", peers.Data{"jwks_url": w.jwks, "bound_issuer": "https://daypass.example.com"})
	w.JWTRole(t, "jwt", "daypass", "vault", []string{"daypass"}, nil)
	return w
}

// serveKeys makes an ES256 key and serves its public half as a JWKS.
func (w *world) serveKeys(t testing.TB) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(set) }))
	t.Cleanup(srv.Close)
	return srv.URL
}

// identity signs a token that says who the broker is, valid for half a minute.
func (w *world) identity(_ context.Context, audience string) (cred.Secret, error) {
	w.logins.Add(1)
	now := time.Now()
	raw, err := jwt.Signed(w.signer).Claims(jwt.Claims{
		Issuer: "https://daypass.example.com", Subject: "broker", Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(30 * time.Second)),
	}).Serialize()
	return cred.SecretString(raw), err
}

func (w *world) config() vault.Config {
	return vault.Config{
		Address: w.URL, Timeout: 10 * time.Second, Paths: []string{path, briefPath},
		JWT: &vault.JWT{Role: "daypass", Audience: "vault", Source: w.identity},
	}
}

func newIssuer(t testing.TB, cfg vault.Config) *vault.Issuer {
	t.Helper()
	iss, err := vault.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = iss.Close() })
	return iss
}

func spec(notAfter time.Time) issuer.Spec {
	return issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.NewGrantID(time.Now()), NotAfter: notAfter,
		Target: cred.Target{Name: "orders-db", Deliver: cred.DeliverDirect, Credential: cred.CredentialSource{Issuer: "v", Path: path}},
	}
}

func brief(notAfter time.Time) issuer.Spec {
	s := spec(notAfter)
	s.Target.Credential.Path = briefPath
	return s
}

func in(d time.Duration) time.Time { return time.Now().Add(d) }

// alive counts Vault's leases and PostgreSQL's users; they must agree.
func (w *world) alive(ctx context.Context) (int, error) {
	leases, err := w.Leases(ctx, path)
	if err != nil {
		return 0, err
	}
	brief, err := w.Leases(ctx, briefPath)
	if err != nil {
		return 0, err
	}
	leases = append(leases, brief...)
	users, err := w.pg.Roles(ctx)
	if err == nil && len(users) != len(leases) {
		err = fmt.Errorf("%d leases and %d users", len(leases), len(users))
	}
	return len(users), err
}

func (w *world) works(ctx context.Context, c cred.Credential) error {
	return w.pg.Login(ctx, c.Fields["username"].RevealString(), c.Fields["password"].RevealString())
}

func (w *world) wantAlive(t *testing.T, want int) {
	t.Helper()
	if n, err := w.alive(t.Context()); err != nil || n != want {
		t.Errorf("%d credentials live, %v, want %d", n, err, want)
	}
}

// eventually waits for something that a real server does in its own time.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := in(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// issue reserves and issues, and checks that the credential works.
func (w *world) issue(t *testing.T, iss *vault.Issuer, s issuer.Spec) (cred.Credential, cred.Lease) {
	t.Helper()
	var err error
	if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
		t.Fatalf("Reserve: %v", err)
	}
	c, l, err := iss.Issue(t.Context(), s)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("the credential does not work: %v", err)
	}
	return c, l
}

func TestVault(t *testing.T) {
	t.Parallel() // beside the test that mostly waits
	w := newWorld(t)
	t.Run("contract", w.testContract)
	t.Run("check", w.testCheck)
	t.Run("ends by itself", w.testEndsByItself)
	t.Run("signs in anew", w.testSignsInAnew)
	t.Run("trouble", w.testTrouble)
	t.Run("crash", w.testCrash)
	t.Run("renew until the grant's end", w.testRenewToTheEnd)
	t.Run("renew up to a maximum", w.testRenewMaximum)
	t.Run("renew in trouble", w.testRenewTrouble)
	t.Run("renew slowly", w.testRenewSlow)
	t.Run("live", w.testLive)
	t.Run("secret", w.testSecret)
	t.Run("no right to see leases", w.testNoRightToSeeLeases)
	t.Run("irrevocable", w.testIrrevocable)
	t.Run("caller leaves", w.testCallerLeaves)
	t.Run("reservation", w.testReservation)
	t.Run("refusals", w.testRefusals)
	t.Run("kv", w.testKV)
	t.Run("kv pinned", w.testKVPinned)
	t.Run("static role", w.testStaticRole)
	t.Run("pki", w.testPKI)
	t.Run("ssh", w.testSSH)
	t.Run("wrap", w.testWrap)
	t.Run("audit hash", w.testAuditHash)
	t.Run("transit", w.testTransit)
	t.Run("approle", w.testAppRole)
	t.Run("kubernetes", w.testKubernetes)
	t.Run("token file", w.testTokenFile)
	t.Run("orphans", w.testOrphans)
	t.Run("bounded by its parent", w.testBoundedByParent)
}

func (w *world) testContract(t *testing.T) {
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, baseURL string) issuer.Issuer {
			cfg := w.config()
			cfg.Address = baseURL
			return newIssuer(t, cfg)
		},
		Source: w.URL, Spec: spec, Brief: brief, Works: w.works, Alive: w.alive,
		UnknownHandle: `{"v":1,"accessor":"nobodysaccessor","path":"` + path + `","engine":"database","end":` + strconv.FormatInt(in(time.Hour).Unix(), 10) + `,"lease":"` + path + `/nobodyslease"}`,
	})
	w.wantAlive(t, 0)
}

// The child's life ends the user at NotAfter though nobody revokes it and the role says 1 h.
func (w *world) testEndsByItself(t *testing.T) {
	iss := newIssuer(t, w.config())
	notAfter := in(3 * time.Second)
	c, l := w.issue(t, iss, spec(notAfter))
	if l.NotAfter.After(notAfter) || l.NotAfter.Before(notAfter.Add(-2*time.Second)) || !c.NotAfter.Equal(l.NotAfter) {
		t.Errorf("the lease ends %v before it was asked to, the credential at %v", notAfter.Sub(l.NotAfter), c.NotAfter)
	}
	_ = iss.Close()
	eventually(t, 15*time.Second, "the user is gone", func() bool { return w.works(t.Context(), c) != nil })
	if late := time.Since(notAfter); late > 14*time.Second { // that of a Vault on a busy machine
		t.Errorf("ended %v late", late)
	}
	eventually(t, 5*time.Second, "the lease is gone", func() bool { n, err := w.alive(t.Context()); return err == nil && n == 0 })
}

// The parent's period has passed twice since it signed in; the lease lives.
func TestOutlivesSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.JWTRole(t, "jwt", "brief", "vault", []string{"daypass"}, peers.Data{"token_period": "8s"})
	cfg := w.config()
	cfg.JWT.Role = "brief"
	iss := newIssuer(t, cfg)
	before := w.logins.Load()
	began := time.Now()
	c, l := w.issue(t, iss, spec(in(10*time.Minute)))
	if !strings.Contains(l.Note, "period") {
		t.Errorf("the note %q does not say that the lease is longer than the period", l.Note)
	}
	eventually(t, 40*time.Second, "17 s have passed", func() bool { return time.Since(began) > 17*time.Second })
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("after two periods the credential does not work: %v", err)
	}
	if n := w.logins.Load() - before; n != 1 {
		t.Errorf("signed in %d times, want once", n)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	w.wantAlive(t, 0)
}

// When the parent is revoked behind our back, the next reservation signs in once more, for all.
func (w *world) testSignsInAnew(t *testing.T) {
	iss := newIssuer(t, w.config())
	before := w.logins.Load()
	if err := iss.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Write(t, "sys/leases/revoke-prefix/auth/jwt/login", peers.Data{"sync": true})
	done := make(chan error)
	for range 8 {
		go func() {
			handle, err := iss.Reserve(t.Context(), spec(in(time.Minute)))
			if err == nil {
				err = iss.Revoke(t.Context(), cred.Lease{Handle: handle})
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Errorf("after the parent was revoked: %v", err)
		}
	}
	if n := w.logins.Load() - before; n != 2 {
		t.Errorf("signed in %d times, want twice", n)
	}
}

// After a crash between intent and outcome all that is left is the handle of Reserve.
func (w *world) testCrash(t *testing.T) {
	s := spec(in(10 * time.Minute))
	dead := newIssuer(t, w.config())
	var err error
	if s.Handle, err = dead.Reserve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	c, _, err := dead.Issue(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	w.wantAlive(t, 1)
	next := newIssuer(t, w.config())
	if err := next.Revoke(t.Context(), cred.Lease{Handle: s.Handle}); err != nil {
		t.Fatal(err)
	}
	if err := w.works(t.Context(), c); err == nil {
		t.Error("Revoke has returned and the user can sign in")
	}
	w.wantAlive(t, 0)
	if _, _, err := next.Issue(t.Context(), s); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("a second process issued for the handle of another: %v", err)
	}
}

// Without the right to list leases, the end after a crash can't be confirmed, and Revoke says so.
func (w *world) testNoRightToSeeLeases(t *testing.T) {
	w.Policy(t, "blind", strings.Replace(policy, `"list", "sudo"`, `"deny"`, 1))
	w.JWTRole(t, "jwt", "blind", "vault", []string{"blind"}, nil)
	cfg := w.config()
	cfg.JWT.Role = "blind"
	iss := newIssuer(t, cfg)
	s := spec(in(time.Minute))
	c, l := w.issue(t, iss, s)
	h := strings.Split(l.Handle, `,"lease"`)[0] + "}"
	err := iss.Revoke(t.Context(), cred.Lease{Handle: h})
	if cred.KindOf(err) != cred.Unavailable || !strings.Contains(cred.PublicText(err), "rights") {
		t.Errorf("Revoke without the right to confirm: %v", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Errorf("Revoke with the lease's ID: %v", err)
	}
	if err := w.works(t.Context(), c); err == nil {
		t.Error("the user can sign in")
	}
	w.wantAlive(t, 0)
}

// A reservation is good for one Issue, of its own lease.
func (w *world) testReservation(t *testing.T) {
	iss := newIssuer(t, w.config())
	s := spec(in(time.Minute))
	var err error
	if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	other := spec(s.NotAfter)
	other.Handle = s.Handle
	if _, _, err := iss.Issue(t.Context(), other); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("issued for another lease's reservation: %v", err)
	}
	_, l, err := iss.Issue(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := iss.Issue(t.Context(), s); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("issued twice for one reservation: %v", err)
	}
	w.wantAlive(t, 1)
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	s = spec(in(time.Minute)) // not reserved: Issue does it
	_, l, err = iss.Issue(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	w.wantAlive(t, 0)
}

// When the caller leaves while PostgreSQL is at work, Vault itself would leave a user behind that no
// lease ends; the issuer stays on the line and takes the credential back. The instants lie around
// the end of a transaction of 300 ms.
func (w *world) testCallerLeaves(t *testing.T) {
	w.Write(t, "database/roles/slow", peers.Data{
		"db_name": "pg", "default_ttl": "1h",
		"creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}';`, `select pg_sleep(0.3);`},
	})
	iss := newIssuer(t, w.config())
	left := 0
	for _, wait := range []int{50, 200, 300, 305, 310, 315, 320, 330} {
		s := spec(in(time.Minute))
		s.Target.Credential.Path = "database/creds/slow"
		var err error
		if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(wait)*time.Millisecond)
		_, _, err = iss.Issue(ctx, s)
		cancel()
		if err != nil && cred.KindOf(err) != cred.Unavailable {
			t.Errorf("after %d ms: %v", wait, err)
		}
		if err != nil {
			left++
		}
		if err := iss.Revoke(t.Context(), cred.Lease{Handle: s.Handle}); err != nil {
			t.Errorf("after %d ms: Revoke: %v", wait, err)
		}
		leases, err := w.Leases(t.Context(), "database/creds/slow")
		users, err2 := w.pg.Roles(t.Context())
		if len(leases)+len(users) > 0 || err != nil || err2 != nil {
			t.Fatalf("left after %d ms: leases %q, users %q; %v, %v", wait, leases, users, err, err2)
		}
	}
	if left < 2 {
		t.Errorf("the caller left %d times before the outcome, which tests little", left)
	}
}
