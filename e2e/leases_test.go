package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// forge is GitHub's API, as far as it tells of jobs. It knows who may ask.
type forge struct {
	url, token string

	mu   sync.Mutex      // owns done
	done map[string]bool // jobs that are over, by their ID
}

// jobRun is the run that the jobs of identitytest are of.
const jobRun = "9001002003"

func newForge(t *testing.T) *forge {
	f := &forge{token: "forge-token-of-the-test", done: map[string]bool{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, ok := strings.CutPrefix(r.URL.Path, "/repos/example-org/example-repo/actions/jobs/")
	if !ok || r.Header.Get("Authorization") != "Bearer "+f.token {
		http.NotFound(w, r) // as GitHub does, who tells nobody what there is
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done[id] {
		fmt.Fprintf(w, `{"id": %s, "run_id": %s, "status": "completed", "conclusion": "cancelled"}`, id, jobRun)
		return
	}
	fmt.Fprintf(w, `{"id": %s, "run_id": %s, "status": "in_progress", "conclusion": null}`, id, jobRun)
}

func (f *forge) end(job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done[job] = true
}

// newLeaseCluster is a vaultCluster that asks for jobs, and compares its leases with Vault's, each second.
func newLeaseCluster(t *testing.T) (*vaultCluster, *forge) {
	t.Helper()
	in, f := newCluster(t), newForge(t)
	in.issuing = ", reconcile: 1s, jobs: 1s"
	in.jobs = fmt.Sprintf(`, jobs: { kind: github, api: "%s", allow_plain: true, token: "file:jobs.token" }`, f.url)
	in.write("jobs.token", f.token)
	return vaultClusterIn(t, in), f
}

// exchangeAs exchanges the token of one job.
func (c *vaultCluster) exchangeAs(job string, ttl time.Duration) sdk.Granted {
	c.t.Helper()
	claims := c.idp.GitHubClaims(c.url, identitytest.GitHubJob{})
	claims["check_run_id"] = job
	g, err := c.as(c.idp.Sign(claims)).Exchange(c.t.Context(), cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "deploy", TTL: ttl})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.login(g.Credential); err != nil {
		c.t.Fatal(err)
	}
	return g
}

// logged waits until the log has an entry of a kind about a grant, and returns the first of them.
func (c *cluster) logged(grant cred.GrantID, kind audit.Kind) audit.Event {
	c.t.Helper()
	var found audit.Event
	eventually(c.t, fmt.Sprintf("the log has %s", kind), func() error {
		all := c.export()
		i := slices.IndexFunc(all, func(e audit.Event) bool { return e.Kind == kind && e.Grant == grant })
		if i < 0 {
			return fmt.Errorf("the grant's history is %v", kindsOf(all, grant))
		}
		found = all[i]
		return nil
	})
	return found
}

// shutOut waits until the user of a credential can't log in any more.
func (c *vaultCluster) shutOut(credential *cred.Credential) {
	c.t.Helper()
	eventually(c.t, "the user is shut out", func() error {
		if c.login(credential) == nil {
			return errors.New("the user can log in")
		}
		return nil
	})
}

// past waits until an instant is over.
func past(ctx context.Context, at time.Time) {
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
	}
}

// TestLeases follows leases beyond what Vault gives at first, and to every way in which they end.
func TestLeases(t *testing.T) {
	c, forge := newLeaseCluster(t)
	in := func(t *testing.T, do func(t *testing.T)) {
		c.t, c.cluster.t = t, t
		do(t)
	}
	t.Run("renewed while the grant lives", func(t *testing.T) { in(t, c.testRenewed) })
	t.Run("ended with the job", func(t *testing.T) { in(t, func(t *testing.T) { c.testJobEnds(t, forge) }) })
	t.Run("stray", func(t *testing.T) { in(t, c.testStray) })
	t.Run("missing", func(t *testing.T) { in(t, c.testMissing) })
}

// testRenewed has Vault mint for eight seconds: one user lives until the end of the grant, another until
// the grant is revoked, both beyond that.
func (c *vaultCluster) testRenewed(t *testing.T) {
	c.vault.DatabaseRole(t, "orders-ro", "8s", "1h")
	revoked := c.exchangeAs("11", 0)
	ends := c.exchangeAs("12", 16*time.Second)
	first, end := ends.Credential.NotAfter, ends.Grant.GetExpireTime().AsTime()
	if left := time.Until(first); left > 8*time.Second || !first.Before(end) {
		t.Fatalf("Vault's first end is in %s, the grant's at %s", left, end)
	}
	for _, g := range []sdk.Granted{revoked, ends} {
		e := c.logged(cred.GrantID(g.Grant.GetId()), audit.LeaseRenewed)
		if e.Lease == nil || !e.Lease.NotAfter.After(g.Credential.NotAfter) {
			t.Errorf("renewed: %+v, want an end after %s", e.Lease, g.Credential.NotAfter)
		}
	}
	past(t.Context(), first.Add(500*time.Millisecond))
	for _, g := range []sdk.Granted{revoked, ends} {
		if err := c.login(g.Credential); err != nil {
			t.Errorf("after the end that Vault gave at first: %v", err)
		}
	}
	if _, err := c.as(revoked.Token.RevealString()).Revoke(t.Context(), "", "job done"); err != nil {
		t.Fatal(err)
	}
	if c.login(revoked.Credential) == nil {
		t.Error("a renewed user can log in after the revocation")
	}
	c.shutOut(ends.Credential)
	if early := time.Until(end); early > 3*time.Second { // Vault reckons in seconds, and for less than two more it is not asked
		t.Errorf("the user was shut out %s before the end of the grant", early)
	}
	eventually(t, "Vault and daypass agree", c.agree)
	if leases, err := c.vault.Leases(t.Context(), credsPath); err != nil || len(leases) != 0 {
		t.Errorf("Vault has the leases %v (%v), want none", leases, err)
	}
	c.vault.DatabaseRole(t, "orders-ro", "1h", "24h")
}

// testJobEnds has GitHub say that one of two jobs is over. Its runner revokes nothing.
func (c *vaultCluster) testJobEnds(t *testing.T, forge *forge) {
	over, goesOn := c.exchangeAs("21", 0), c.exchangeAs("22", 0)
	forge.end("21")
	e := c.logged(cred.GrantID(over.Grant.GetId()), audit.GrantRevoked)
	if e.Principal.Subject != "broker" || !strings.Contains(fmt.Sprint(e.Detail), "the job has ended: the job is completed: cancelled") {
		t.Errorf("revoked by %s: %v", e.Principal.Subject, e.Detail)
	}
	c.shutOut(over.Credential)
	if err := c.login(goesOn.Credential); err != nil {
		t.Errorf("the job that goes on: %v", err)
	}
	if _, err := c.as(goesOn.Token.RevealString()).Revoke(t.Context(), "", "job done"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Vault and daypass agree", c.agree)
}

// testStray makes a lease behind the broker's back.
func (c *vaultCluster) testStray(t *testing.T) {
	mine := c.exchangeAs("31", 0)
	secret, err := c.vault.Client.Logical().ReadWithContext(t.Context(), credsPath)
	if err != nil {
		t.Fatal(err)
	}
	e := c.logged("", audit.LeaseStray)
	if names := fmt.Sprint(e.Detail["names"]); e.Detail["issuer"] != "prod-vault" || names != fmt.Sprint([]any{secret.LeaseID}) {
		t.Errorf("told of the strays %s (%v), want %s alone", names, e.Detail, secret.LeaseID)
	}
	sources, err := c.as(c.person("auditor")).Sources(t.Context())
	if err != nil || len(sources) != 1 || sources[0].GetStrays() != 1 || !slices.Contains(sources[0].GetStrayNames(), secret.LeaseID) {
		t.Errorf("the sources are %v, %v", sources, err)
	}
	username, password := secret.Data["username"].(string), secret.Data["password"].(string)
	if err := c.pg.Login(t.Context(), username, password); err != nil {
		t.Errorf("the stray was touched: %v", err)
	}
	c.vault.Write(t, "sys/leases/revoke", map[string]any{"lease_id": secret.LeaseID, "sync": true})
	if _, err := c.as(mine.Token.RevealString()).Revoke(t.Context(), "", "job done"); err != nil {
		t.Fatal(err)
	}
}

// testMissing ends a lease behind the broker's back.
func (c *vaultCluster) testMissing(t *testing.T) {
	stays := c.exchangeAs("41", 0)
	before, err := c.vault.Leases(t.Context(), credsPath)
	if err != nil {
		t.Fatal(err)
	}
	g := c.exchangeAs("42", 0)
	leases, err := c.vault.Leases(t.Context(), credsPath)
	if err != nil || len(leases) != len(before)+1 {
		t.Fatalf("Vault has %v, then %v, %v", before, leases, err)
	}
	leases = slices.DeleteFunc(leases, func(id string) bool { return slices.Contains(before, id) })
	c.vault.Write(t, "sys/leases/revoke", map[string]any{"lease_id": leases[0], "sync": true})
	id := cred.GrantID(g.Grant.GetId())
	c.logged(id, audit.LeaseMissing)
	eventually(t, "Vault and daypass agree", c.agree)
	r, err := c.as(c.person("auditor")).Grant(t.Context(), id)
	if err != nil || r.GetGrant().GetState() != string(cred.GrantActive) {
		t.Errorf("the grant of a credential that is missing: %v, %v, want one that lives", r.GetGrant(), err)
	}
	if slices.Contains(kindsOf(c.export(), cred.GrantID(stays.Grant.GetId())), audit.LeaseMissing) {
		t.Error("a lease that Vault has is told missing, too")
	}
}

// TestKilledInRenewal kills the broker with SIGKILL at every step of a renewal, starts it again, and
// holds what Vault has against what daypass says that it has: the user lives on beyond the first end, is
// renewed once, and ends with the grant.
func TestKilledInRenewal(t *testing.T) {
	c := newVaultCluster(t)
	for _, point := range []struct {
		step string
		life string // Vault's first; where Vault has not renewed yet, it has to last for the restart
	}{{"before", "24s"}, {"after-source", "9s"}, {"after-outcome", "9s"}} {
		t.Run(point.step, func(t *testing.T) {
			c.t, c.cluster.t = t, t
			c.vault.DatabaseRole(t, "orders-ro", point.life, "1h")
			c.broker.kill()
			c.startBroker("DAYPASS_FAILPOINT=renew." + point.step)
			g, err := c.exchange()
			if err != nil {
				t.Fatal(err)
			}
			c.broker.ended()
			c.startBroker()
			id := cred.GrantID(g.Grant.GetId())
			c.logged(id, audit.LeaseRenewed)
			past(t.Context(), g.Credential.NotAfter.Add(500*time.Millisecond))
			if err := c.login(g.Credential); err != nil {
				t.Errorf("after the end that Vault gave at first: %v", err)
			}
			if err := c.agree(); err != nil {
				t.Error(err)
			}
			if _, err := c.as(c.person("security")).Revoke(t.Context(), id, "a test"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "Vault and daypass agree", c.agree)
			want := []audit.Kind{
				audit.ExchangeGranted, audit.LeaseIntent, audit.LeaseIssued, audit.LeaseRenewing, audit.LeaseRenewed,
				audit.GrantRevoked, audit.LeaseRevoking, audit.LeaseRevoked,
			}
			if got := kindsOf(c.export(), id); !slices.Equal(got, want) {
				t.Errorf("the grant's history is %v, want %v", got, want)
			}
		})
	}
}
