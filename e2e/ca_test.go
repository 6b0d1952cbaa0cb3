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
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
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

// takeNext does what a rotation of the CA asks a person to do for the proxy.
func (s *site) takeNext() {
	s.t.Helper()
	s.copy("pki/ca.pem", "pki/ca.pem")
	s.copy("pki/proxy-edge-1.next.pem", "pki/proxy-edge-1.pem")
	s.restart()
}

// shown is the proxy's certificate with its key, as they lie on its machine now.
func (s *site) shown() tls.Certificate {
	s.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "pki/proxy-edge-1.pem"), filepath.Join(s.dir, "pki/proxy-edge-1.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
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
		s.takeNext()
	})
	if !copied {
		t.Error("the rotation did not ask for the files to be copied")
	}
	stop()
	if r := <-result; r.err != nil || r.n < 20 {
		t.Errorf("the proxy served %d grants, then: %v", r.n, r.err)
	}
	c.oldCAGone(oldPair, oldCA)
	c.broker.kill()
	c.startBroker(upstreamEnv)
	s.restart()
	c.answered("after everything was started anew", c.granted("api"), http.StatusOK)
	c.export()
}

// oldCAGone checks that nobody takes the CA of before any more, and what the proxy had of it.
func (c *cluster) oldCAGone(oldPair tls.Certificate, oldCA *tls.Config) {
	c.t.Helper()
	if cas := c.bundled(); cas != 1 {
		c.t.Errorf("the bundle holds %d CAs after the rotation, want 1", cas)
	}
	g := c.granted("api")
	if err := c.redeems(g, c.shown()); err != nil {
		c.t.Errorf("a proxy with its new certificate: %v", err)
	}
	if err := c.redeems(g, oldPair); cred.KindOf(err) != cred.Unauthenticated && cred.KindOf(err) != cred.Denied {
		c.t.Errorf("a proxy with its old certificate: %v, want a refusal", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: oldCA, DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(c.url + "/readyz")
	if err == nil {
		resp.Body.Close()
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		c.t.Errorf("who knows the old CA alone connects: %v", err)
	}
}

// bundled counts the CAs that broker and proxies take.
func (c *cluster) bundled() int {
	c.t.Helper()
	return strings.Count(c.read("pki/ca.pem"), "BEGIN CERTIFICATE")
}

// TestKilledInCARotation kills the broker with SIGKILL at every point of every step of one rotation of the
// CA of broker and proxies, one after the other: a rotation for each point would wait half a minute each
// time until it looks again what its person has done. So each step is begun three times, and comes to its
// end the third time. Before that the switch, which a person has to copy files for, is killed while it waits
// for them. The proxy serves meanwhile and at the end, and every broker that stays up for a while takes its
// certificate. At the end nobody takes the old CA.
func TestKilledInCARotation(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "proxy_ca: { spread: 1s }")
	c.abandonAfter("3s")
	hook := c.addHook()
	s := newSite(c)
	oldPair, oldCA, oldServer := c.shown(), c.tls(), c.read("pki/server.pem")
	// What each act leaves: one that only waited leaves nothing, and its death would prove nothing.
	bundled := map[cred.RotationStep]int{
		cred.StepCheck: 1, cred.StepPrepare: 2, cred.StepSwitch: 2, cred.StepVerify: 2, cred.StepDrain: 2, cred.StepRetire: 1,
	}
	steps := cred.RotationSteps()
	r := c.diesInRotation("own", string(steps[0])+".before", upstreamEnv)
	for i, step := range steps {
		if step == cred.StepSwitch {
			r = s.killedWhileItWaits(step, hook)
		}
		if i > 0 {
			c.diesAtOnce(step, "before")
		}
		c.diesAtOnce(step, "after-begin")
		for _, point := range []string{"after-act", "after-outcome"} {
			// The step is the last broker's until it is taken for abandoned. So long this one lives, which may be
			// too short for the proxy to find it again; so it is called with the proxy's certificate anew.
			c.startBroker(upstreamEnv, failsAt(step, point))
			if err := c.redeems(c.granted("api"), s.shown()); err != nil {
				t.Fatalf("before %s of %s the proxy's certificate: %v", point, step, err)
			}
			c.broker.ended()
			if n := c.bundled(); n != bundled[step] {
				t.Fatalf("killed at %s of %s the bundle holds %d CAs, want %d", point, step, n, bundled[step])
			}
			if switched := c.read("pki/server.pem") != oldServer; switched != (i >= slices.Index(steps, cred.StepSwitch)) {
				t.Fatalf("killed at %s of %s: the broker's certificate is a new one: %v", point, step, switched)
			}
		}
	}
	c.startBroker(upstreamEnv)
	r = c.goesOn(r)
	c.reaches("the proxy serves on", c.granted("api"))
	s.restart()
	c.answered("after the rotation", c.granted("api"), http.StatusOK)
	c.oldCAGone(oldPair, oldCA)
	c.onceEach(r.GetId())
	c.toldOnce(r, cred.StepSwitch, hook)
}

// killedWhileItWaits kills the broker with SIGKILL as soon as a step has found that it has to wait for the
// proxy's new certificate, when nobody was told yet, and again while it waits and its person was told. The
// next one waits on. The proxy serves meanwhile, with its old certificate and then with the new one, which
// is what the step waits for. It returns the rotation that is due at its next look.
func (s *site) killedWhileItWaits(step cred.RotationStep, hook *receiver) *pb.Rotation {
	s.t.Helper()
	before := s.read("pki/ca.pem") + s.read("pki/server.pem")
	s.diesAtOnce(step, "after-act")
	if told := hook.count(string(notice.RotationWaits)); told != 0 {
		s.t.Errorf("people were told %d times of what is on no record", told)
	}
	s.startBroker(upstreamEnv)
	r := s.waits(step)
	g := s.granted("api")
	s.reaches("the proxy serves with its old certificate", g)
	s.broker.kill()
	s.answered("a grant from before, while no broker lives", g, http.StatusOK)
	s.startBroker(upstreamEnv)
	s.reaches("the proxy serves with its old certificate, and another broker", s.granted("api"))
	if on := s.waits(step); on.GetId() != r.GetId() {
		s.t.Errorf("after a restart the rotation %s waits, before it %s", on.GetId(), r.GetId())
	}
	if now := s.read("pki/ca.pem") + s.read("pki/server.pem"); now != before {
		s.t.Error("the certificates are not those of before the wait")
	}
	s.takeNext()
	s.reaches("the proxy serves with its new certificate", s.granted("api"))
	s.broker.kill()
	return r
}

// waits returns the last rotation once it waits for a person at a step.
func (s *site) waits(step cred.RotationStep) *pb.Rotation {
	s.t.Helper()
	var r *pb.Rotation
	eventually(s.t, "the rotation waits for a person", func() error {
		all, err := s.as(s.person("security")).Rotations(s.t.Context(), 1)
		if err != nil {
			return err
		}
		if r = all[0]; r.GetStep() != string(step) || !strings.Contains(r.GetWhy(), "copy "+s.path("pki/ca.pem")) || !strings.Contains(r.GetWhy(), "edge-1") {
			return fmt.Errorf("it stands at %s: %q", r.GetStep(), r.GetWhy())
		}
		return nil
	})
	return r
}

// toldOnce checks that the log and people were told once that a rotation waits for a person, at a step.
func (c *cluster) toldOnce(r *pb.Rotation, step cred.RotationStep, hook *receiver) {
	c.t.Helper()
	var steps []string
	for _, e := range c.export() {
		if e.Kind == audit.RotationStep && e.Rotation.ID == r.GetId() && e.Detail["outcome"] == "waits" {
			steps = append(steps, e.Rotation.Step)
		}
	}
	if !slices.Equal(steps, []string{string(step)}) {
		c.t.Errorf("the log tells of waits at %q, want one at %s", steps, step)
	}
	eventually(c.t, "the notice arrives", func() error {
		if hook.count(string(notice.RotationWaits)) == 0 {
			return fmt.Errorf("the notices %q", hook.kinds())
		}
		return nil
	})
	if told, stuck := hook.count(string(notice.RotationWaits)), hook.count(string(notice.RotationStuck)); told != 1 || stuck != 0 {
		c.t.Errorf("people were told %d times of the wait, and %d times that it is stuck; want 1 and 0", told, stuck)
	}
}

func failsAt(step cred.RotationStep, point string) string {
	return fmt.Sprintf("DAYPASS_FAILPOINT=rotate.%s.%s", step, point)
}

// diesAtOnce starts a broker that comes to a point of a step as soon as it looks at its rotations.
func (c *cluster) diesAtOnce(step cred.RotationStep, point string) {
	c.t.Helper()
	c.broker = launch(c.t, []string{upstreamEnv, failsAt(step, point)}, program(c.t, "daypassd"), "serve", "--config", c.path("daypass.yaml"))
	c.broker.ended()
}
