package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// exchangeClients call at a time, each with a connection of its own.
const exchangeClients = 16

// tokenPool is how many ID tokens there are: distinct ones, as distinct jobs have.
const tokenPool = 512

// benchExchange compares Exchange, durable with its entry, with Vault's JWT login on in-memory
// storage, of the same RS256 tokens.
func benchExchange(ctx context.Context, b *bench) ([]result, error) {
	c, err := startCluster(ctx, b.dir, "127.0.0.1:9")
	if err != nil {
		return nil, err
	}
	defer c.stop()
	tokens := make([]string, tokenPool)
	for i := range tokens {
		tokens[i] = c.jobToken(i)
	}
	v, err := startVault(c)
	if err != nil {
		return nil, err
	}
	defer v.child.stop()
	exchange, err := exchangeLoad(ctx, c, tokens)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := b.inTurn(
		func() (float64, error) { return perSecond(ctx, exchangeClients, b.round, exchange) },
		func() (float64, error) { return perSecond(ctx, exchangeClients, b.round, v.login(tokens)) },
	)
	if err != nil {
		return nil, err
	}
	return []result{ratio(fmt.Sprintf("exchange: RS256 token for a grant, %d clients", exchangeClients), "exchanges/s", ours, theirs, "Vault's auth/jwt/login, in memory", "≥ 3")}, nil
}

func exchangeLoad(ctx context.Context, c *cluster, tokens []string) (func(int) error, error) {
	var next atomic.Int64
	source := func(context.Context) (cred.Secret, error) {
		return cred.SecretString(tokens[next.Add(1)%int64(len(tokens))]), nil
	}
	tlsConfig, err := trust(filepath.Join(c.etc, "pki", "ca.pem"))
	if err != nil {
		return nil, err
	}
	clients := make([]*sdk.Client, exchangeClients)
	for i := range clients {
		if clients[i], err = sdk.Dial(c.url, source, tlsConfig); err != nil {
			return nil, err
		}
	}
	return func(n int) error {
		_, err := clients[n].Exchange(ctx, cred.Request{Target: "api", Reason: "bench"})
		return err
	}, nil
}

// vaultServer is a Vault in development mode with JWT auth.
type vaultServer struct {
	url   string
	child *child
	http  *http.Client
}

func startVault(c *cluster) (*vaultServer, error) {
	bin, err := exec.Command("e2e/prepare", "vault").Output()
	if err != nil {
		return nil, fmt.Errorf("no Vault to compare with: %w", err)
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	v := &vaultServer{url: "http://" + addr, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: exchangeClients}}}
	root := "bench-" + rand.Text()
	v.child, err = startChild([]string{"HOME=" + c.dir}, strings.TrimSpace(string(bin)), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+root, "-dev-listen-address="+addr, "-log-level=error")
	if err != nil {
		return nil, err
	}
	if err := awaitListening(addr); err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	config.Address = v.url
	client, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetToken(root)
	return v, errors.Join(
		client.Sys().EnableAuthWithOptions("jwt", &api.EnableAuthOptions{Type: "jwt"}),
		write(client, "auth/jwt/config", map[string]any{"oidc_discovery_url": c.idp.URL()}),
		write(client, "auth/jwt/role/ci", map[string]any{
			"role_type": "jwt", "user_claim": "repository_id", "bound_audiences": []string{c.url},
			"bound_claims": map[string]any{"repository_id": "300400500", "ref": "refs/heads/main"}, "token_ttl": "15m",
		}),
	)
}

func write(client *api.Client, path string, data map[string]any) error {
	_, err := client.Logical().Write(path, data)
	return err
}

func (v *vaultServer) login(tokens []string) func(int) error {
	var next atomic.Int64
	return func(int) error {
		body, err := json.Marshal(map[string]string{"role": "ci", "jwt": tokens[next.Add(1)%int64(len(tokens))]})
		if err != nil {
			return err
		}
		resp, err := v.http.Post(v.url+"/v1/auth/jwt/login", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("vault: HTTP %d: %s (%w)", resp.StatusCode, answer, err)
		}
		return nil
	}
}
