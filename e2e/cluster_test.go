package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/freeport"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// patience bounds everything that is waited for.
const patience = 60 * time.Second

// cluster is a broker, and where a test starts it a proxy, in a folder that init made.
type cluster struct {
	t        *testing.T
	dir      string
	url      string // the broker's
	proxyURL string
	logKey   string
	idp      *identitytest.Issuer // of CI jobs, and of those who run the broker
	people   *identitytest.Issuer // of people in groups
	broker   *daemon
	proxy    *daemon
	busy     bool   // there will be load: sources get longer to answer, and PostgreSQL makes users cheaply
	issuing  string // further keys of the section issuing, each after a comma
	jobs     string // where it is asked for jobs: the section of the CI's provider
}

// newCluster runs init. The configuration is completed by serve.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	idp, err := identitytest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(idp.Close)
	people, err := identitytest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(people.Close)
	c := &cluster{t: t, dir: filepath.Join(t.TempDir(), "etc"), idp: idp, people: people}
	broker, proxy := freeAddr(t), freeAddr(t)
	c.url, c.proxyURL = "https://"+broker, "http://"+proxy
	out, err := exec.Command(program(t, "daypassd"), "init", "--url", c.url, "--listen", broker, "--proxy-listen", proxy, c.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "/log+") {
			c.logKey = strings.TrimSpace(line)
		}
	}
	return c
}

// configure writes daypass.yaml: what every test has, and the sections that this one adds.
func (c *cluster) configure(sections string) {
	c.t.Helper()
	text := fmt.Sprintf(`server:
  listen: %s
  url: %s
  tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem }
proxies: [{ name: edge-1, targets: ["*"] }]
identity_providers:
  - { name: ci, issuer: "%s", audiences: ["%s"], kind: workload, allow_plain: true%s }
  - { name: people, issuer: "%s", audiences: ["%s"], groups_claim: groups, allow_plain: true }
roles:
  auditor: principal.subject == "auditor"
  security: principal.subject == "security"
issuing: { timeout: %s, rotation_timeout: %s%s }
`, strings.TrimPrefix(c.url, "https://"), c.url, c.idp.URL(), c.url, c.jobs, c.people.URL(), c.url, c.timeout("3s"), c.timeout("5s"), c.issuing) + sections
	if err := os.WriteFile(c.path("daypass.yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// timeout is how long a source has, which is more where there will be load.
func (c *cluster) timeout(usual string) string {
	if c.busy {
		return "30s"
	}
	return usual
}

// addSections adds to daypass.yaml.
func (c *cluster) addSections(sections string) {
	c.t.Helper()
	text, err := os.ReadFile(c.path("daypass.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.path("daypass.yaml"), append(text, sections...), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// write puts a file that only its owner may read beside the configuration.
func (c *cluster) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(c.path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// startBroker starts daypassd and waits until it is ready.
func (c *cluster) startBroker(env ...string) {
	c.t.Helper()
	c.broker = launch(c.t, env, program(c.t, "daypassd"), "serve", "--config", c.path("daypass.yaml"))
	c.broker.await(c.httpClient(), c.url+"/readyz")
}

// startProxy starts daypass-proxy and waits until it is ready.
func (c *cluster) startProxy(env ...string) {
	c.t.Helper()
	c.proxy = launch(c.t, env, program(c.t, "daypass-proxy"), "serve", "--config", c.path("proxy.yaml"))
	c.proxy.await(http.DefaultClient, c.proxyURL+"/-/readyz")
}

func (c *cluster) tls() *tls.Config {
	c.t.Helper()
	pem, err := os.ReadFile(c.path("pki/ca.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
}

func (c *cluster) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls(), DisableKeepAlives: true}, Timeout: patience}
}

// as returns a client that shows a token.
func (c *cluster) as(token string) *sdk.Client {
	c.t.Helper()
	client, err := sdk.Dial(c.url, sdk.StaticToken(cred.SecretString(token)), c.tls())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// job is the ID token of a CI job, person that of somebody.
func (c *cluster) job() string {
	return c.idp.Sign(c.idp.GitHubClaims(c.url, identitytest.GitHubJob{}))
}

func (c *cluster) person(subject string) string {
	return c.idp.Sign(c.idp.PersonClaims(c.url, subject))
}

// member is the ID token of somebody in groups.
func (c *cluster) member(subject string, groups ...string) string {
	return c.people.Sign(c.people.PersonClaims(c.url, subject, groups...))
}

// export returns every entry of the broker's log, after it has verified.
func (c *cluster) export() []audit.Event {
	c.t.Helper()
	var file bytes.Buffer
	exporter, err := audit.NewExporter(&file, audit.FormatJSONL)
	if err != nil {
		c.t.Fatal(err)
	}
	var events []audit.Event
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cp, err := c.as(c.person("auditor")).Export(ctx, &pb.ExportRequest{}, func(e *pb.ExportedEntry) error {
		_, event, err := audit.Parse(e.GetCanonical())
		events = append(events, event)
		if err != nil {
			return err
		}
		return exporter.Write(audit.Exported{Seq: e.GetSeq(), Canonical: e.GetCanonical()})
	})
	if err != nil {
		c.t.Fatalf("export: %v", err)
	}
	trailer := audit.Trailer{Note: []byte(cp.GetNote()), VerifierKey: cp.GetVerifierKey()}
	for _, line := range cp.GetHandOvers() {
		h, err := audit.ParseHandOver(line)
		if err != nil {
			c.t.Fatalf("export: %v", err)
		}
		trailer.HandOvers = append(trailer.HandOvers, h)
	}
	if err := exporter.Close(trailer); err != nil {
		c.t.Fatalf("export: %v", err)
	}
	report, err := audit.Verify(&file, audit.VerifyOptions{VerifierKey: c.logKey})
	if err != nil || !report.Complete {
		c.t.Fatalf("the log does not verify: %v (%+v)", err, report)
	}
	return events
}

// daemon is a process that runs until it is ended, or dies.
type daemon struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{} // closed when it has ended
}

func launch(t *testing.T, env []string, name string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: exec.Command(name, args...), log: &lockedBuffer{}, done: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(d.done); _ = d.cmd.Wait() }()
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), d.log)
		}
	})
	return d
}

// await polls a URL until it answers 200.
func (d *daemon) await(client *http.Client, url string) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-d.done:
			d.t.Fatalf("the process ended by itself:\n%s", d.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("%s does not answer: %v\n%s", url, err, d.log)
		}
	}
}

func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// stop asks the process to end, and returns its exit code.
func (d *daemon) stop() int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	d.ended()
	return d.cmd.ProcessState.ExitCode()
}

// ended waits until the process has ended by itself.
func (d *daemon) ended() {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(patience):
		d.t.Fatalf("the process does not end:\n%s", d.log)
	}
}

// lockedBuffer is what a process printed.
type lockedBuffer struct {
	mu  sync.Mutex // owns buf
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// eventually polls until check says nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond) // polls an outside process, which has no event to wait for
	}
}
