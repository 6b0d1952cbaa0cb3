package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/freeport"
)

// cluster is a broker, and a proxy if one is wanted, as they are shipped.
type cluster struct {
	dir    string // of the programs
	etc    string // of the configuration
	url    string
	proxy  string // host:port
	idp    *identitytest.Issuer
	runs   []*child
	client *sdk.Client // connects as a CI job
}

// How the broker is reached: as proxies need it, and in plain text, as Vault's development server is.
const (
	overTLS = `proxies: [{ name: edge-1, targets: ["*"] }]
server:
  tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem }
  url: https://%[1]s
`
	inPlain = `server:
  plain: true
  url: http://%[1]s
`
)

const clusterConfig = `  listen: %[1]s
identity_providers:
  - { name: github-actions, issuer: "%[2]s", audiences: ["%[4]s"], kind: workload, algorithms: [RS256], allow_plain: true }
issuers:
  - { name: keys, static: { secrets: { api: { token: "env:BENCH_KEY" } } } }
targets:
  - name: api
    credential: { issuer: keys, path: api }
    http: { upstream: "http://%[3]s", allow_private: true }
    mask: { detectors: [secrets, pii] }
rules:
  - name: deploys-from-main
    who: >-
      principal.provider == "github-actions" && principal.claims.repository_id == "300400500" &&
      principal.claims.ref == "refs/heads/main"
    may: [{ target: api }]
    ttl: 15m
`

// startCluster builds the commands and starts a broker; upstream is where the target is.
func startCluster(ctx context.Context, dir, upstream, server string) (*cluster, error) {
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	idp, err := identitytest.New()
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, idp: idp}
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	if c.proxy, err = freeport.Addr(); err != nil {
		return nil, err
	}
	c.url = "https://" + addr
	if server == inPlain {
		c.url = "http://" + addr
	}
	c.etc = filepath.Join(dir, "etc-"+strings.ReplaceAll(addr, ":", "-"))
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "daypassd"), "init", "--url", "https://"+addr, "--listen", addr, "--proxy-listen", c.proxy, c.etc).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("init: %w\n%s", err, out)
	}
	config := filepath.Join(c.etc, "daypass.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, server+clusterConfig, addr, idp.URL(), upstream, c.url), 0o600); err != nil {
		return nil, err
	}
	if err := c.launch([]string{"BENCH_KEY=bench-upstream-key-0123456789"}, "daypassd", "serve", "--config", config); err != nil {
		return nil, err
	}
	if err := awaitListening(addr); err != nil {
		return nil, err
	}
	tlsConfig, err := trust(filepath.Join(c.etc, "pki", "ca.pem"))
	if err != nil {
		return nil, err
	}
	c.client, err = sdk.Dial(c.url, sdk.StaticToken(cred.SecretString(c.jobToken(0))), tlsConfig)
	return c, err
}

// startProxy starts the proxy and waits until it honours tokens.
func (c *cluster) startProxy() error {
	if err := c.launch(nil, "daypass-proxy", "serve", "--config", filepath.Join(c.etc, "proxy.yaml")); err != nil {
		return err
	}
	if err := awaitListening(c.proxy); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := http.Get("http://" + c.proxy + "/-/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the proxy does not get ready: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *cluster) launch(env []string, name string, args ...string) error {
	run, err := startChild(env, filepath.Join(c.dir, name), args...)
	if err == nil {
		c.runs = append(c.runs, run)
	}
	return err
}

// jobToken is the RS256 ID token of the nth CI job.
func (c *cluster) jobToken(n int) string {
	claims := c.idp.GitHubClaims(c.url, identitytest.GitHubJob{})
	claims["run_id"] = fmt.Sprint(9_000_000 + n)
	return c.idp.Sign(claims)
}

func (c *cluster) stop() {
	for _, r := range c.runs {
		r.stop()
	}
	c.idp.Close()
}

func trust(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
