package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/freeport"
)

// exchangeClients call at a time, each with a connection of its own.
const exchangeClients = 16

// tokenPool is how many ID tokens there are: distinct ones, as distinct jobs have.
const tokenPool = 512

// benchExchange compares Exchange, durable with its entry, with Vault's JWT login on in-memory
// storage, of the same RS256 tokens: through the same kind of door as Vault's, HTTP with JSON in plain
// text, and as our own clients call, over gRPC and TLS.
func benchExchange(ctx context.Context, b *bench) ([]result, error) {
	var all []result
	for _, door := range []struct {
		name, server string
		load         func(context.Context, *cluster, []string) (func(int) error, error)
	}{
		{"HTTP as Vault's", inPlain, exchangeByHTTP},
		{"gRPC, TLS", overTLS, exchangeByGRPC},
	} {
		r, err := exchangeThrough(ctx, b, door.server, door.load)
		if err != nil {
			return nil, err
		}
		r.Name = fmt.Sprintf("exchange: RS256 token for a grant, %d clients, %s", exchangeClients, door.name)
		all = append(all, r)
	}
	all[0].Goal = "≥ 3"
	return all, nil
}

func exchangeThrough(ctx context.Context, b *bench, server string, load func(context.Context, *cluster, []string) (func(int) error, error)) (result, error) {
	c, err := startCluster(ctx, b.dir, "127.0.0.1:9", server)
	if err != nil {
		return result{}, err
	}
	defer c.stop()
	tokens := make([]string, tokenPool)
	for i := range tokens {
		tokens[i] = c.jobToken(i)
	}
	v, err := startVault(c)
	if err != nil {
		return result{}, err
	}
	defer v.child.stop()
	exchange, err := load(ctx, c, tokens)
	if err != nil {
		return result{}, err
	}
	login, err := v.login(tokens)
	if err != nil {
		return result{}, err
	}
	ours, theirs, err := b.inTurn(
		func() (float64, error) { return perSecond(ctx, exchangeClients, b.round, exchange) },
		func() (float64, error) { return perSecond(ctx, exchangeClients, b.round, login) },
	)
	return ratio("", "exchanges/s", ours, theirs, "Vault's auth/jwt/login, in memory", ""), err
}

// exchangeByHTTP calls /oauth/token (RFC 8693) with the client that calls Vault.
func exchangeByHTTP(_ context.Context, c *cluster, tokens []string) (func(int) error, error) {
	bodies := make([][]byte, len(tokens))
	for i, t := range tokens {
		bodies[i] = []byte(url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
			"subject_token": {t}, "audience": {"api"}, "reason": {"bench"},
		}.Encode())
	}
	return postInTurn(c.url, "/oauth/token", "application/x-www-form-urlencoded", bodies)
}

// postInTurn posts one body after the other, each client on a connection of its own.
func postInTurn(base, path, contentType string, bodies [][]byte) (func(int) error, error) {
	conns, _, err := dialAll(strings.TrimPrefix(base, "http://"), exchangeClients)
	if err != nil {
		return nil, err
	}
	var next atomic.Int64
	return func(n int) error {
		return conns[n].post(path, contentType, bodies[next.Add(1)%int64(len(bodies))])
	}, nil
}

func exchangeByGRPC(ctx context.Context, c *cluster, tokens []string) (func(int) error, error) {
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
	url    string
	child  *child
	client *api.Client
}

func startVault(c *cluster) (*vaultServer, error) {
	bin, err := exec.Command("e2e/prepare", "vault").Output()
	if err != nil {
		return nil, fmt.Errorf("no Vault to compare with: %w", err)
	}
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	root := "bench-" + rand.Text()
	v := &vaultServer{url: "http://" + addr}
	program := strings.TrimSpace(string(bin))
	args := []string{"server", "-dev", "-dev-no-store-token", "-dev-root-token-id=" + root, "-dev-listen-address=" + addr, "-log-level=error"}
	if plugins := filepath.Join(filepath.Dir(program), "plugins"); isFolder(plugins) {
		args = append(args, "-dev-plugin-dir="+plugins)
	}
	v.child, err = startChild([]string{"HOME=" + c.dir}, program, args...)
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
	v.client = client
	return v, errors.Join(
		client.Sys().EnableAuthWithOptions("jwt", &api.EnableAuthOptions{Type: "jwt"}),
		write(client, "auth/jwt/config", map[string]any{"oidc_discovery_url": c.idp.URL()}),
		write(client, "auth/jwt/role/ci", map[string]any{
			"role_type": "jwt", "user_claim": "repository_id", "bound_audiences": []string{c.url},
			"bound_claims": map[string]any{"repository_id": "300400500", "ref": "refs/heads/main"}, "token_ttl": "15m",
		}),
	)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func write(client *api.Client, path string, data map[string]any) error {
	_, err := client.Logical().Write(path, data)
	return err
}

func (v *vaultServer) login(tokens []string) (func(int) error, error) {
	bodies := make([][]byte, len(tokens))
	for i, t := range tokens {
		body, err := json.Marshal(map[string]string{"role": "ci", "jwt": t})
		if err != nil {
			return nil, err
		}
		bodies[i] = body
	}
	return postInTurn(v.url, "/v1/auth/jwt/login", "application/json", bodies)
}
