package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// overheadClients are how many call at a time: one after the other, and a few together, which the goal is
// for, as those of the other rows are.
var overheadClients = []int{1, 4}

const (
	dynamicPath = "database/creds/orders"
	createUser  = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`
)

// benchOverhead compares the latency of a PostgreSQL user that Vault makes for daypass (sign-in, decision,
// grant, a lease's token, intent, outcome: all of an exchange) with that of the same read from Vault
// itself, with a token that exists already. Both are HTTP in plain text. The reader's token is as Vault makes
// it for a policy, the broker's as docs/issuers/vault.md does.
func benchOverhead(ctx context.Context, b *bench) ([]result, error) {
	c, err := startCluster(ctx, b.dir, "127.0.0.1:9", inPlain)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	v, err := startVault(c)
	if err != nil {
		return nil, err
	}
	defer v.child.stop()
	pg, err := startPostgres(ctx)
	if pg != nil {
		defer pg.stop()
	}
	if err != nil {
		return nil, err
	}
	if err := v.makesUsers(pg); err != nil {
		return nil, err
	}
	brokers, err := v.token(brokerPolicy, api.TokenCreateRequest{NoDefaultPolicy: true, Period: "24h"})
	if err != nil {
		return nil, err
	}
	if err := c.restartWith(v, brokers); err != nil {
		return nil, err
	}
	var all []result
	for _, n := range overheadClients {
		r, err := overheadOf(ctx, b, c, v, n)
		if err != nil {
			return nil, err
		}
		if n > 1 {
			r.Goal = "≤ 1.25"
		}
		all = append(all, r)
	}
	return all, nil
}

func overheadOf(ctx context.Context, b *bench, c *cluster, v *vaultServer, clients int) (result, error) {
	ours, done, err := exchangeUsers(c, clients)
	if err != nil {
		return result{}, err
	}
	defer done()
	theirs, closeAll, err := dialAll(strings.TrimPrefix(v.url, "http://"), clients)
	if err != nil {
		return result{}, err
	}
	defer closeAll()
	reader, err := v.token(readerPolicy, api.TokenCreateRequest{Period: "24h"})
	if err != nil {
		return result{}, err
	}
	header := "X-Vault-Token: " + reader + "\r\n"
	value, baseline, err := b.inTurn(
		func() (float64, error) { return medianLatency(ctx, clients, b.round, ours) },
		func() (float64, error) {
			return medianLatency(ctx, clients, b.round, func(n int) error { return theirs[n].get("/v1/"+dynamicPath, header) })
		},
	)
	at := "one after the other"
	if clients > 1 {
		at = fmt.Sprintf("%d clients", clients)
	}
	return ratio("overhead: a PostgreSQL user by way of Vault, median, "+at, "µs", value, baseline, "the same read from Vault itself", ""), err
}

// exchangeUsers returns a call of /oauth/token that asks for a user, each time as another job.
func exchangeUsers(c *cluster, clients int) (func(int) error, func(), error) {
	bodies := make([][]byte, tokenPool)
	for i := range bodies {
		bodies[i] = []byte(url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
			"subject_token": {c.jobToken(i)}, "audience": {"orders"}, "reason": {"bench"},
		}.Encode())
	}
	conns, closeAll, err := dialAll(strings.TrimPrefix(c.url, "http://"), clients)
	if err != nil {
		return nil, nil, err
	}
	var next atomic.Int64
	return func(n int) error {
		return conns[n].post("/oauth/token", "application/x-www-form-urlencoded", bodies[next.Add(1)%int64(len(bodies))])
	}, closeAll, nil
}

// medianLatency runs work in so many goroutines for a time and returns the median of how long it took,
// in microseconds. The first error ends all.
func medianLatency(ctx context.Context, workers int, d time.Duration, work func(worker int) error) (float64, error) {
	var mu sync.Mutex
	var took []float64
	_, err := perSecond(ctx, workers, d, func(n int) error {
		began := time.Now()
		if err := work(n); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		took = append(took, float64(time.Since(began).Microseconds()))
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(took) == 0 {
		return 0, fmt.Errorf("nothing was done in %v", d)
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// makesUsers has Vault make users of a PostgreSQL.
func (v *vaultServer) makesUsers(pg *postgres) error {
	if err := v.client.Sys().Mount("database", &api.MountInput{Type: "database"}); err != nil {
		return err
	}
	err := write(v.client, "database/config/pg", map[string]any{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": "postgresql://{{username}}:{{password}}@" + pg.addr + "/postgres?sslmode=disable",
		"username":       pg.user, "password": pg.password, "allowed_roles": []string{"*"},
	})
	if err != nil {
		return err
	}
	return write(v.client, "database/roles/orders", map[string]any{
		"db_name": "pg", "creation_statements": []string{createUser}, "default_ttl": "15m", "max_ttl": "1h",
	})
}

const (
	readerPolicy = `path "` + dynamicPath + `" { capabilities = ["read"] }`
	brokerPolicy = readerPolicy + `
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases" { capabilities = ["read", "sudo"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/leases/lookup/` + dynamicPath + `/" { capabilities = ["list", "sudo"] }`
)

// token makes a token with a policy of its own.
func (v *vaultServer) token(policy string, like api.TokenCreateRequest) (string, error) {
	name := "bench-" + strings.ToLower(rand.Text())
	if err := v.client.Sys().PutPolicy(name, policy); err != nil {
		return "", err
	}
	like.Policies = []string{name}
	made, err := v.client.Auth().Token().Create(&like)
	if err != nil {
		return "", err
	}
	return made.Auth.ClientToken, nil
}

// restartWith starts the broker anew with a Vault to issue from, and a token for that.
func (c *cluster) restartWith(v *vaultServer, brokers string) error {
	addr := strings.TrimPrefix(c.url, "http://")
	for _, r := range c.runs {
		r.stop()
	}
	c.runs = nil
	token := filepath.Join(c.etc, "vault-token")
	if err := os.WriteFile(token, []byte(brokers), 0o600); err != nil {
		return err
	}
	config := filepath.Join(c.etc, "daypass.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	for _, more := range []struct{ after, line string }{
		{"issuers:\n", fmt.Sprintf("  - { name: vault, vault: { address: %q, auth: { token_file: vault-token } } }\n", v.url)},
		{"targets:\n", "  - { name: orders, credential: { issuer: vault, path: " + dynamicPath + " } }\n"},
	} {
		text = []byte(strings.Replace(string(text), more.after, more.after+more.line, 1))
	}
	text = []byte(strings.Replace(string(text), "may: [{ target: api }]", "may: [{ target: api }, { target: orders }]", 1))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return err
	}
	if err := c.launch([]string{"BENCH_KEY=bench-upstream-key-0123456789"}, "daypassd", "serve", "--config", config); err != nil {
		return err
	}
	return awaitListening(addr)
}
