package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

const upstreamKey = "upstream-key-that-nobody-else-holds"

// newProxyCluster is a broker and a proxy in front of an upstream. It may have further sections.
func newProxyCluster(t *testing.T, upstream http.HandlerFunc, sections ...string) *cluster {
	t.Helper()
	c := newCluster(t)
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	c.configure(fmt.Sprintf(`
issuers:
  - { name: keys, static: { secrets: { api: { token: "env:UPSTREAM_KEY" } } } }
targets:
  - name: api
    credential: { issuer: keys, path: api }
    http: { upstream: "%s", allow_private: true }
    mask: { detectors: [secrets, pii] }
rules:
  - { name: jobs, who: principal.provider == "ci", may: [{ target: api }], ttl: 10m }
`, server.URL) + strings.Join(sections, ""))
	c.startBroker("UPSTREAM_KEY=" + upstreamKey)
	c.startProxy()
	return c
}

func (c *cluster) granted(target string) sdk.Granted {
	c.t.Helper()
	g, err := c.as(c.job()).Exchange(c.t.Context(), cred.Request{Target: target})
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

// get calls the target through the proxy.
func (c *cluster) get(ctx context.Context, g sdk.Granted, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.proxyURL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+g.Token.RevealString())
	return http.DefaultClient.Do(req)
}

func TestProxySpendsMasksAndRecords(t *testing.T) {
	c := newProxyCluster(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you sent %s", r.Header.Get("Authorization"))
	})
	g := c.granted("api")
	if g.Credential != nil {
		t.Fatal("a proxied target handed its credential to the caller")
	}
	resp, err := c.get(t.Context(), g, "/api/echo?q=1")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "you sent [masked:credential]" {
		t.Errorf("got %q", body)
	}
	id := cred.GrantID(g.Grant.GetId())
	eventually(t, "the proxy ships its uses", func() error {
		if kinds := kindsOf(c.export(), id); !slices.Contains(kinds, audit.UseEnd) {
			return fmt.Errorf("history %v", kinds)
		}
		return nil
	})
	for _, e := range c.export() {
		if e.Kind != audit.UseEnd || e.Grant != id {
			continue
		}
		want := []audit.Masked{{Detector: "credential", Count: 1}}
		if e.Use.Status != 200 || e.Use.Path != "/echo" || e.Use.BytesOut == 0 || !slices.Equal(e.Use.Masked, want) || e.Origin == nil {
			t.Errorf("the use is recorded as %+v (origin %v)", e.Use, e.Origin)
		}
	}
	if code := c.proxy.stop(); code != 0 {
		t.Errorf("the proxy ended with %d", code)
	}
	if code := c.broker.stop(); code != 0 {
		t.Errorf("the broker ended with %d", code)
	}
}

func TestRevocationCutsAStream(t *testing.T) {
	ended := make(chan struct{})
	c := newProxyCluster(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			fmt.Fprint(w, "data: tick\n\n")
			if http.NewResponseController(w).Flush() != nil {
				break
			}
		}
		close(ended)
	})
	g := c.granted("api")
	resp, err := c.get(t.Context(), g, "/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.as(g.Token.RevealString()).Revoke(t.Context(), "", "stop"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	<-ended
	after, err := c.get(t.Context(), g, "/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	after.Body.Close()
	if after.StatusCode != http.StatusForbidden {
		t.Errorf("a revoked grant got %d", after.StatusCode)
	}
}

// TestKilledProxyTellsWhatItLost kills the proxy while a request is under way: its beginning is on
// record, and the next start records that its end is lost.
func TestKilledProxyTellsWhatItLost(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	c := newProxyCluster(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	defer close(release)
	g := c.granted("api")
	failed := make(chan error, 1)
	go func() {
		resp, err := c.get(context.WithoutCancel(t.Context()), g, "/api/slow")
		if err == nil {
			resp.Body.Close()
			err = errors.New("the request was answered by a dead proxy")
		} else {
			err = nil
		}
		failed <- err
	}()
	<-arrived
	c.proxy.kill()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	c.startProxy()
	id := cred.GrantID(g.Grant.GetId())
	eventually(t, "the lost use is shipped", func() error {
		kinds := kindsOf(c.export(), id)
		if !slices.Contains(kinds, audit.UseBegin) || !slices.Contains(kinds, audit.UseLost) {
			return fmt.Errorf("history %v", kinds)
		}
		return nil
	})
}

// TestProxyRefusesALostLog: a key without its log does not start a second log under the same name.
func TestProxyRefusesALostLog(t *testing.T) {
	c := newProxyCluster(t, func(http.ResponseWriter, *http.Request) {})
	c.proxy.stop()
	if out, err := exec.Command("mv", c.path("data/proxy-edge-1.db"), c.path("data/elsewhere")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program(t, "daypass-proxy"), "serve", "--config", c.path("proxy.yaml")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "move the key away") {
		t.Errorf("a proxy without its log: %v\n%s", err, out)
	}
}

// TestRefusesToStart: what is in doubt does not start, and says what to do.
func TestRefusesToStart(t *testing.T) {
	c := newCluster(t)
	c.configure("")
	c.startBroker()
	second, err := exec.Command(program(t, "daypassd"), "serve", "--config", c.path("daypass.yaml")).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "daypassd: error: ") {
		t.Errorf("a second broker on the same store: %v\n%s", err, second)
	}
	c.broker.kill()
	if out, err := exec.Command("chmod", "644", c.path("keys/sealing.key")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wide, err := exec.Command(program(t, "daypassd"), "serve", "--config", c.path("daypass.yaml")).CombinedOutput()
	if err == nil || !strings.Contains(string(wide), "chmod 600 "+c.path("keys/sealing.key")) {
		t.Errorf("a key file that others may read: %v\n%s", err, wide)
	}
}

// TestFullDisk runs the broker with a limit on the size of its files: at the limit writes are
// refused and reads go on, and after a start without the limit nothing is lost.
func TestFullDisk(t *testing.T) {
	c := newProxyCluster(t, func(http.ResponseWriter, *http.Request) {})
	c.broker.kill()
	script := fmt.Sprintf("ulimit -f 1024; exec %s serve --config %s", program(t, "daypassd"), c.path("daypass.yaml"))
	c.broker = launch(t, []string{"UPSTREAM_KEY=" + upstreamKey}, "bash", "-c", script)
	c.broker.await(c.httpClient(), c.url+"/readyz")
	job := c.as(c.job())
	var granted []string
	var refusal error
	padding := strings.Repeat("a reason that takes room ", 40)
	for range 5000 {
		g, err := job.Exchange(t.Context(), cred.Request{Target: "api", Reason: padding})
		if err != nil {
			refusal = err
			break
		}
		granted = append(granted, g.Grant.GetId())
	}
	if cred.KindOf(refusal) != cred.Unavailable || len(granted) == 0 {
		t.Fatalf("after %d grants: %v, want unavailable", len(granted), refusal)
	}
	if _, err := job.Grant(t.Context(), cred.GrantID(granted[0])); err != nil {
		t.Errorf("a read on a full disk: %v", err)
	}
	c.broker.kill()
	c.startBroker("UPSTREAM_KEY=" + upstreamKey)
	recorded := map[string]bool{}
	for _, e := range c.export() {
		if e.Kind == audit.ExchangeGranted {
			recorded[string(e.Grant)] = true
		}
	}
	for _, id := range granted {
		if !recorded[id] {
			t.Errorf("grant %s was acknowledged and is not in the log", id)
		}
	}
	if _, err := c.as(c.job()).Exchange(t.Context(), cred.Request{Target: "api"}); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestNoSecretInWhatIsWritten greps everything that the processes wrote for the secrets.
func TestNoSecretInWhatIsWritten(t *testing.T) {
	c := newProxyCluster(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header) })
	job := c.job()
	g, err := c.as(job).Exchange(t.Context(), cred.Request{Target: "api"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.get(t.Context(), g, "/api/echo")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	c.proxy.stop()
	c.broker.stop()
	c.wroteNone(map[string]string{"credential": upstreamKey, "ID token": job, "grant token": g.Token.RevealString()}, c.broker, c.proxy)
}

// wroteNone greps what processes printed, and the files of broker and proxy, for secrets.
func (c *cluster) wroteNone(secrets map[string]string, by ...*daemon) {
	c.t.Helper()
	files, err := exec.Command("find", c.path("data"), "-type", "f").Output()
	if err != nil || len(files) == 0 {
		c.t.Fatalf("find: %v, %q", err, files)
	}
	for name, secret := range secrets {
		for _, d := range by {
			if strings.Contains(d.log.String(), secret) {
				c.t.Errorf("the %s is in what %s printed", name, d.cmd.Path)
			}
		}
		for file := range strings.Lines(string(files)) {
			content, err := os.ReadFile(strings.TrimSpace(file))
			if err != nil {
				c.t.Fatal(err)
			}
			if bytes.Contains(content, []byte(secret)) {
				c.t.Errorf("the %s is in %s", name, file)
			}
		}
	}
}
