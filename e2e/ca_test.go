package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// site is a proxy on a machine of its own, which has its own copies of the CA and of its certificate.
type site struct {
	*cluster
	dir string
	mu  sync.RWMutex // held while the proxy is started anew
}

// newSite moves the cluster's proxy to a folder of its own.
func newSite(c *cluster) *site {
	c.t.Helper()
	s := &site{cluster: c, dir: c.t.TempDir()}
	for _, sub := range []string{"pki", "data", "keys"} {
		if err := os.Mkdir(filepath.Join(s.dir, sub), 0o700); err != nil {
			c.t.Fatal(err)
		}
	}
	s.copy("proxy.yaml", "proxy.yaml")
	s.copy("pki/ca.pem", "pki/ca.pem")
	s.copy("pki/proxy-edge-1.pem", "pki/proxy-edge-1.pem")
	s.copy("pki/proxy-edge-1.key", "pki/proxy-edge-1.key")
	s.restart()
	return s
}

// copy takes a file from the broker's machine.
func (s *site) copy(from, to string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, to), []byte(s.read(from)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy.stop()
	s.proxy = launch(s.t, nil, program(s.t, "daypass-proxy"), "serve", "--config", filepath.Join(s.dir, "proxy.yaml"))
	s.proxy.await(http.DefaultClient, s.proxyURL+"/-/readyz")
}

// serves spends fresh grants through the proxy until ctx ends, but for while it is started anew. It
// returns how many, and the first that failed.
func (s *site) serves(ctx context.Context) (n int, err error) {
	for ctx.Err() == nil && err == nil {
		err = s.serveOne(ctx)
		n++
	}
	return n, err
}

func (s *site) serveOne(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	client, err := sdk.Dial(s.url, sdk.StaticToken(cred.SecretString(s.job())), s.tls())
	if err != nil {
		return err
	}
	defer client.Close()
	g, err := client.Exchange(context.WithoutCancel(ctx), cred.Request{Target: "api"})
	if err != nil {
		return err
	}
	if status, err := s.spend(g); err != nil || status != http.StatusOK {
		return fmt.Errorf("the proxy answers %d, %w", status, err)
	}
	return nil
}

// shown is a proxy's certificate with its key, as they lie in the broker's folder now.
func (c *cluster) shown() tls.Certificate {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.path("pki/proxy-edge-1.pem"), c.path("pki/proxy-edge-1.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

// redeems has a proxy with some certificate redeem a grant.
func (c *cluster) redeems(g sdk.Granted, pair tls.Certificate) error {
	c.t.Helper()
	config := c.tls()
	config.Certificates = []tls.Certificate{pair}
	client, err := sdk.DialProxy(c.url, config)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Redeem(c.t.Context(), g.Token)
	return err
}

// TestCARotation rotates the CA of broker and proxies, with somebody who copies the files as the
// rotation asks for it. The proxy serves throughout; at the end nobody takes the old CA.
func TestCARotation(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "proxy_ca: { spread: 1s }")
	s := newSite(c)
	oldPair, oldCA := c.shown(), c.tls()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type served struct {
		n   int
		err error
	}
	result := make(chan served, 1)
	go func() { n, err := s.serves(ctx); result <- served{n, err} }()
	copied := false
	c.rotated("own", func(r *pb.Rotation) {
		if copied || !strings.Contains(r.GetWhy(), "copy "+c.path("pki/ca.pem")) || !strings.Contains(r.GetWhy(), "edge-1") {
			return
		}
		copied = true
		s.copy("pki/ca.pem", "pki/ca.pem")
		s.copy("pki/proxy-edge-1.next.pem", "pki/proxy-edge-1.pem")
		s.restart()
	})
	if !copied {
		t.Error("the rotation did not ask for the files to be copied")
	}
	stop()
	if r := <-result; r.err != nil || r.n < 20 {
		t.Errorf("the proxy served %d grants, then: %v", r.n, r.err)
	}

	if certs := strings.Count(c.read("pki/ca.pem"), "BEGIN CERTIFICATE"); certs != 1 {
		t.Errorf("the bundle holds %d CAs after the rotation, want 1", certs)
	}
	g := c.granted("api")
	if err := c.redeems(g, c.shown()); err != nil {
		t.Errorf("a proxy with its new certificate: %v", err)
	}
	if err := c.redeems(g, oldPair); cred.KindOf(err) != cred.Unauthenticated && cred.KindOf(err) != cred.Denied {
		t.Errorf("a proxy with its old certificate: %v, want a refusal", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: oldCA, DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(c.url + "/readyz")
	if err == nil {
		resp.Body.Close()
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		t.Errorf("who knows the old CA alone connects: %v", err)
	}
	c.broker.kill()
	c.startBroker(upstreamEnv)
	s.restart()
	c.answered("after everything was started anew", c.granted("api"), http.StatusOK)
	c.export()
}
