package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

const credsPath = "database/creds/orders-ro"

// vaultPolicy is what the documentation asks for, and no more.
const vaultPolicy = `
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases" { capabilities = ["read", "sudo"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/leases/lookup/database/creds/*" { capabilities = ["list", "sudo"] }
path "database/creds/*" { capabilities = ["read"] }
`

// vaultCluster is a broker that mints PostgreSQL users through Vault, to which it signs in with its
// own ID token.
type vaultCluster struct {
	*cluster
	vault *peers.VaultServer
	pg    *peers.PostgresServer
}

func newVaultCluster(t *testing.T) *vaultCluster {
	t.Helper()
	return vaultClusterIn(t, newCluster(t))
}

func vaultClusterIn(t *testing.T, in *cluster) *vaultCluster {
	t.Helper()
	postgres := peers.Postgres
	if in.busy {
		postgres = peers.PostgresMD5
	}
	c := &vaultCluster{cluster: in, pg: postgres(t), vault: peers.Vault(t)}
	c.vault.Database(t, c.pg)
	c.vault.DatabaseRole(t, "orders-ro", "1h", "24h")
	c.vault.Policy(t, "daypass", vaultPolicy)
	c.configure(fmt.Sprintf(`
issuers:
  - name: prod-vault
    vault: { address: "%s", auth: { jwt: { role: daypass, audience: vault } } }
targets:
  - name: orders-db
    credential: { issuer: prod-vault, path: %s }
rules:
  - name: deploys-from-main
    who: principal.provider == "ci" && principal.claims.ref == "refs/heads/main"
    may: [{ target: orders-db, scopes: [read] }]
    ttl: 10m
`, c.vault.URL, credsPath))
	c.startBroker()
	ca, err := os.ReadFile(c.path("pki/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c.vault.JWTAuth(t, "jwt", peers.Data{"jwks_url": c.url + "/jwks.json", "jwks_ca_pem": string(ca), "bound_issuer": c.url})
	c.vault.JWTRole(t, "jwt", "daypass", "vault", []string{"daypass"}, peers.Data{"bound_subject": "daypass-broker", "token_no_default_policy": true})
	return c
}

func (c *vaultCluster) exchange() (sdk.Granted, error) {
	return c.as(c.job()).Exchange(c.t.Context(), cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "deploy"})
}

func (c *vaultCluster) login(credential *cred.Credential) error {
	return c.pg.Login(c.t.Context(), credential.Fields["username"].RevealString(), credential.Fields["password"].RevealString())
}

func TestVaultCredentialFromExchangeToRevocation(t *testing.T) {
	c := newVaultCluster(t)
	g, err := c.exchange()
	if err != nil {
		t.Fatal(err)
	}
	if g.Credential == nil || g.Credential.Type != cred.UserPassword {
		t.Fatalf("got %+v, want a user and password in the same call", g)
	}
	if err := c.login(g.Credential); err != nil {
		t.Fatalf("the minted user can't log in: %v", err)
	}
	r, err := c.as(g.Token.RevealString()).Revoke(t.Context(), "", "job done")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.GetLeases()) != 1 || r.GetLeases()[0].GetState() != "revoked" {
		t.Errorf("leases after the revocation: %v", r.GetLeases())
	}
	if err := c.login(g.Credential); err == nil {
		t.Error("the user can log in after Revoke has answered")
	}
	if leases, err := c.vault.Leases(t.Context(), credsPath); err != nil || len(leases) != 0 {
		t.Errorf("Vault has the leases %v (%v), want none", leases, err)
	}
	want := []audit.Kind{audit.ExchangeGranted, audit.LeaseIntent, audit.LeaseIssued, audit.GrantRevoked, audit.LeaseRevoking, audit.LeaseRevoked}
	if got := kindsOf(c.export(), cred.GrantID(g.Grant.GetId())); !slices.Equal(got, want) {
		t.Errorf("the grant's history is %v, want %v", got, want)
	}
}

func kindsOf(events []audit.Event, grant cred.GrantID) []audit.Kind {
	var kinds []audit.Kind
	for _, e := range events {
		if e.Grant == grant {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// TestKilledInRedeem kills the broker with SIGKILL at every step of redeem and of revoke, starts it
// again, and holds what Vault has against what daypass says that it has.
func TestKilledInRedeem(t *testing.T) {
	c := newVaultCluster(t)
	steps := []string{
		"redeem.before-intent", "redeem.after-intent", "redeem.after-issue", "redeem.after-outcome",
		"revoke.after-grant", "revoke.after-intent", "revoke.after-revoke",
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			c.t, c.cluster.t = t, t
			c.broker.kill()
			c.startBroker("DAYPASS_FAILPOINT=" + step)
			g, err := c.exchange()
			if err == nil {
				_, err = c.as(g.Token.RevealString()).Revoke(t.Context(), "", "job done")
			}
			if cred.KindOf(err) != cred.Unavailable {
				t.Fatalf("the broker was to be killed at %s, and the caller got %v", step, err)
			}
			c.broker.ended()
			c.startBroker()
			eventually(t, "Vault and daypass agree", c.agree)
			c.export()
		})
	}
}

// TestKilledWhileAProxyRedeems kills the broker with SIGKILL at every step of a redemption of its own, which
// begins with a grant that is there already.
func TestKilledWhileAProxyRedeems(t *testing.T) {
	c := newVaultCluster(t)
	text := strings.NewReplacer("\nrules:\n", fmt.Sprintf(`
  - name: orders-http
    credential: { issuer: prod-vault, path: %s }
    http: { upstream: "http://127.0.0.1:9", allow_private: true }
rules:
`, credsPath), "[{ target: orders-db, scopes: [read] }]", "[{ target: orders-db, scopes: [read] }, { target: orders-http }]").Replace(c.read("daypass.yaml"))
	c.write("daypass.yaml", text)
	for _, step := range []string{"before-intent", "after-intent", "after-issue", "after-outcome"} {
		t.Run(step, func(t *testing.T) {
			c.t, c.cluster.t = t, t
			c.broker.kill()
			c.startBroker("DAYPASS_FAILPOINT=redeem." + step)
			g := c.granted("orders-http")
			if err := c.redeems(g, c.shown()); cred.KindOf(err) != cred.Unavailable {
				t.Fatalf("the broker was to be killed at %s, and the proxy got %v", step, err)
			}
			c.broker.ended()
			c.startBroker()
			eventually(t, "Vault and daypass agree", c.agree)
			eventually(t, "the proxy redeems", func() error { return c.redeems(g, c.shown()) })
			if err := c.agree(); err != nil {
				t.Error(err)
			}
		})
	}
}

// agree reports how what Vault has differs from what daypass says: after a recovery no lease is in a
// state that waits, Vault has as many as daypass says are issued, and each has its intent and its
// outcome in the log.
func (c *vaultCluster) agree() error {
	alive, err := c.vault.Leases(c.t.Context(), credsPath)
	if err != nil {
		return err
	}
	auditor := c.as(c.person("auditor"))
	grants, _, err := auditor.Grants(c.t.Context(), &pb.ListGrantsRequest{})
	if err != nil {
		return err
	}
	events := c.export()
	issued := 0
	for _, g := range grants {
		r, err := auditor.Grant(c.t.Context(), cred.GrantID(g.GetId()))
		if err != nil {
			return err
		}
		for _, l := range r.GetLeases() {
			switch l.GetState() {
			case "issued":
				issued++
			case "revoked", "failed", "expired":
			default:
				return fmt.Errorf("lease %s is %s", l.GetId(), l.GetState())
			}
			if last := lastState(events, l.GetId()); last != l.GetState() {
				return fmt.Errorf("lease %s is %s, and the log says %q", l.GetId(), l.GetState(), last)
			}
			if g.GetState() == "revoked" && l.GetState() == "issued" {
				return errors.New("a revoked grant has a lease that is issued")
			}
		}
	}
	if issued != len(alive) {
		return fmt.Errorf("daypass knows %d issued leases, Vault has %d", issued, len(alive))
	}
	roles, err := c.pg.Roles(c.t.Context())
	if err != nil {
		return err
	}
	if users := mintedUsers(roles); users != len(alive) {
		return fmt.Errorf("PostgreSQL has %d minted users, Vault %d leases", users, len(alive))
	}
	return nil
}

func lastState(events []audit.Event, lease string) string {
	state := ""
	for _, e := range events {
		if e.Lease != nil && string(e.Lease.ID) == lease {
			state = e.Lease.State
		}
	}
	return state
}

// mintedUsers counts the roles that Vault made; their names begin with "v-".
func mintedUsers(roles []string) int {
	n := 0
	for _, r := range roles {
		if len(r) > 2 && r[:2] == "v-" {
			n++
		}
	}
	return n
}
