package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/internal/freeport"
)

// world is everything that the demo starts.
type world struct {
	dir      string // temporary
	idp      *identitytest.Issuer
	upstream *upstream
	vault    *vaultServer // nil where there is no vault
	broker   string       // URL
	proxy    string       // URL
	logKey   string       // the verifier key that init printed
	processes

	token string // the grant token of the first act
	grant string // and its grant
}

// newWorld builds the programs, makes a configuration and starts everything.
func newWorld(ctx context.Context, s *stage) (*world, error) {
	dir, err := os.MkdirTemp("", "daypass-demo-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, upstream: newUpstream()}
	if err := w.start(ctx, s); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context, s *stage) (err error) {
	began := time.Now()
	s.say("building daypassd, daypass-proxy and daypass (a minute or two the first time) …")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.dir+"/", "./cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the build failed: %w\n%s", err, out)
	}
	s.say("built in %s\n", time.Since(began).Round(time.Second))
	if w.idp, err = identitytest.New(); err != nil {
		return err
	}
	broker, err := freeport.Addr()
	if err != nil {
		return err
	}
	proxy, err := freeport.Addr()
	if err != nil {
		return err
	}
	w.broker, w.proxy = "https://"+broker, "http://"+proxy
	out, err := w.command("daypassd", "init", "--url", w.broker, "--listen", broker, "--proxy-listen", proxy, w.path("etc"))
	if err != nil {
		return fmt.Errorf("init failed: %w\n%s", err, out)
	}
	if w.logKey = lineWith(out, "/log+"); w.logKey == "" {
		return errors.New("init printed no verifier key")
	}
	if w.vault, err = startVault(ctx, s, w); err != nil {
		return err
	}
	if err := os.WriteFile(w.path("etc/daypass.yaml"), []byte(w.configuration(broker)), 0o600); err != nil {
		return err
	}
	s.say("the configuration, in %s:\n", w.path("etc/daypass.yaml"))
	s.shows(w.shown())
	return w.startDaemons(ctx)
}

func (w *world) startDaemons(ctx context.Context) error {
	err := w.launch(w.path("broker.log"), []string{"DEMO_UPSTREAM_KEY=" + w.upstream.key}, w.path("daypassd"), "serve", "--config", w.path("etc/daypass.yaml"))
	if err != nil {
		return err
	}
	client, err := w.brokerClient()
	if err != nil {
		return err
	}
	if err := awaitReady(ctx, client, w.broker+"/readyz"); err != nil {
		return fmt.Errorf("the broker does not come up: %w\n%s", err, w.tail("broker.log"))
	}
	if w.vault != nil {
		if err := w.vault.trust(w); err != nil {
			return err
		}
	}
	if err := w.launch(w.path("proxy.log"), nil, w.path("daypass-proxy"), "serve", "--config", w.path("etc/proxy.yaml")); err != nil {
		return err
	}
	if err := awaitReady(ctx, http.DefaultClient, w.proxy+"/-/readyz"); err != nil {
		return fmt.Errorf("the proxy does not come up: %w\n%s", err, w.tail("proxy.log"))
	}
	return nil
}

// brokerClient trusts the CA that init made.
func (w *world) brokerClient() (*http.Client, error) {
	pem, err := os.ReadFile(w.path("etc/pki/ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}, nil
}

// awaitReady asks until the answer is 200, for at most 20 seconds.
func awaitReady(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// tail is the end of a log, for a failure.
func (w *world) tail(name string) string {
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}

// command runs one of our programs and returns what it printed.
func (w *world) command(name string, args ...string) (string, error) {
	cmd := exec.Command(w.path(name), args...)
	cmd.Env = append(os.Environ(), "DAYPASS_BROKER="+w.broker, "DAYPASS_CA_FILE="+w.path("etc/pki/ca.pem"), "DAYPASS_TOKEN="+w.token)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// stop ends the daemons as an operator would, and fails if one does not end well.
func (w *world) stop() error { return w.terminate() }

func (w *world) close() {
	w.kill()
	if w.idp != nil {
		w.idp.Close()
	}
	w.upstream.Close()
	os.RemoveAll(w.dir)
}

func (w *world) explain(s *stage) {
	s.say(`
everything still runs, until Ctrl-C. Try, in another terminal:

  export PATH=%[1]s:$PATH DAYPASS_BROKER=%[2]s DAYPASS_CA_FILE=%[1]s/etc/pki/ca.pem
  daypass exchange assistant --id-token-file %[1]s/ci.jwt -o text
  curl -N %[3]s/assistant/v1/chat/completions -d '{"stream":true}' \
    -H "Authorization: Bearer $(daypass exchange assistant --id-token-file %[1]s/ci.jwt -o token)"
  daypass grants list --id-token-file %[1]s/auditor.jwt

the job's ID token lasts five minutes; the logs are %[1]s/broker.log and proxy.log`, w.dir, w.broker, w.proxy)
}

// processes are the daemons that run.
type processes struct{ all []*exec.Cmd }

func (p *processes) launch(logFile string, env []string, name string, args ...string) error {
	f, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = f, f, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	p.all = append(p.all, cmd)
	return nil
}

// terminate ends what runs with SIGTERM, the last started first.
func (p *processes) terminate() error {
	var errs []error
	for len(p.all) > 0 {
		last := p.all[len(p.all)-1]
		p.all = p.all[:len(p.all)-1]
		if err := last.Process.Signal(syscall.SIGTERM); err != nil {
			errs = append(errs, err)
		}
		if err := last.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s did not end well: %w", filepath.Base(last.Path), err))
		}
	}
	return errors.Join(errs...)
}

func (p *processes) kill() {
	for _, cmd := range p.all {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
