package e2e_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// approvalRules need a lead and somebody of security for jobs, and let members of the team break the
// glass.
const approvalRules = `
issuers:
  - { name: keys, static: { secrets: { api: { token: "env:UPSTREAM_KEY" } } } }
targets:
  - name: api
    credential: { issuer: keys, path: api }
    http: { upstream: "%s", allow_private: true }
rules:
  - name: release
    who: principal.provider == "ci" && principal.claims.repository_id == "300400500"
    may: [{ target: api }]
    ttl: 10m
    approval: { all_of: [{ group: leads }, { group: security }], within: 30m, fresh: 1h }
  - name: in-need
    who: principal.provider == "people" && "team" in principal.groups
    may: [{ target: api }]
    ttl: 10m
    break_glass: { max_ttl: 5m, review: { groups: [security], within: 24h } }
notices:
  channels:
    - name: hook
      webhook: { url: "%s", secret: "file:webhook.secret", allow_plain: true }
`

// receiver is somebody's webhook, who checks signatures (Standard Webhooks 1.0.0) and drops doubles.
type receiver struct {
	key  []byte
	url  string
	mu   sync.Mutex
	seen map[string]string // kinds by message ID
	bad  []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{key: []byte(strings.Repeat("k", 32)), seen: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.Header.Get("webhook-id")
	mac := hmac.New(sha256.New, r.key)
	fmt.Fprintf(mac, "%s.%s.%s", id, req.Header.Get("webhook-timestamp"), body)
	if req.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		r.bad = append(r.bad, id)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var n struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(body, &n)
	r.seen[id] = n.Type
}

func (r *receiver) kinds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, kind := range r.seen {
		all = append(all, kind)
	}
	slices.Sort(all)
	return all
}

func (r *receiver) count(kind string) (n int) {
	for _, k := range r.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

// addHook has the next broker tell a webhook.
func (c *cluster) addHook() *receiver {
	c.t.Helper()
	hook := newReceiver(c.t)
	c.write("webhook.secret", base64.StdEncoding.EncodeToString(hook.key))
	c.addSections(fmt.Sprintf(`
notices:
  channels: [{ name: hook, webhook: { url: "%s", secret: "file:webhook.secret", allow_plain: true } }]
`, hook.url))
	return hook
}

func newApprovalCluster(t *testing.T, upstream http.HandlerFunc) (*cluster, *receiver) {
	t.Helper()
	c, hook := newCluster(t), newReceiver(t)
	server := httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	if err := os.WriteFile(c.path("webhook.secret"), []byte(base64.StdEncoding.EncodeToString(hook.key)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.configure(fmt.Sprintf(approvalRules, server.URL, hook.url))
	c.startBroker("UPSTREAM_KEY=" + upstreamKey)
	return c, hook
}

func (c *cluster) review(subject, group string, id cred.GrantID, approve bool) {
	c.t.Helper()
	client := c.as(c.member(subject, group))
	r, err := client.Request(c.t.Context(), id)
	if err == nil {
		_, err = client.Review(c.t.Context(), id, r.GetDigest(), cred.Verdict{Approve: approve})
	}
	if err != nil {
		c.t.Fatalf("%s reviews: %v", subject, err)
	}
}

// restart kills the broker in the middle of whatever it does, and starts it again.
func (c *cluster) restart() {
	c.t.Helper()
	c.broker.kill()
	c.startBroker("UPSTREAM_KEY=" + upstreamKey)
}

// A request outlives the broker that took it, at each of its steps; whoever is asked is told; and what
// is granted works through the proxy, until a lock cuts it.
func TestApprovalSurvivesTheBroker(t *testing.T) {
	ended := make(chan struct{})
	c, hook := newApprovalCluster(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "tick\n")
			if http.NewResponseController(w).Flush() != nil {
				break
			}
		}
		close(ended)
	})
	ctx := t.Context()
	want := cred.Request{Target: "api", Reason: "release 7", IdempotencyKey: "release-7"}
	asked, err := c.as(c.job()).Exchange(ctx, want)
	if err != nil || !asked.Pending() {
		t.Fatalf("asked: %v, %v", asked.Grant, err)
	}
	id := cred.GrantID(asked.Grant.GetId())
	c.restart()
	c.review("lea", "leads", id, true)
	c.restart()
	waited := make(chan error, 1)
	go func() {
		waited <- c.as(c.job()).Wait(ctx, id, func(*pb.WaitResponse) error { return nil })
	}()
	c.review("gus", "security", id, true)
	if err := <-waited; err != nil {
		t.Fatalf("wait: %v", err)
	}
	c.restart()
	granted, err := c.as(c.job()).Exchange(ctx, want, sdk.Claiming(id))
	if err != nil || granted.Token.IsZero() {
		t.Fatalf("claimed: %v", err)
	}
	c.restart()
	again, err := c.as(c.job()).Exchange(ctx, want) // the answer was lost
	if err != nil || again.Grant.GetId() != string(id) {
		t.Fatalf("retried: %v, %v", again.Grant, err)
	}
	c.startProxy()
	resp, err := c.get(ctx, granted, "/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	locked, err := c.as(c.person("security")).Lock(ctx, &pb.LockRequest{Target: "api", Reason: "incident"})
	if err != nil || locked.GetRevokedGrants() != 1 {
		t.Fatalf("locked: %v, %v", locked, err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	<-ended
	t.Logf("the lock cut the stream after %s", time.Since(began))
	c.restart()
	if _, err := c.as(c.job()).Exchange(ctx, cred.Request{Target: "api"}); cred.KindOf(err) != cred.Denied {
		t.Errorf("after a restart, under the lock: %v", err)
	}
	kinds := kindsOf(c.export(), id)
	for _, kind := range []audit.Kind{audit.ExchangePending, audit.RequestReviewed, audit.ExchangeGranted, audit.GrantRevoked} {
		if !slices.Contains(kinds, kind) {
			t.Errorf("the history %v lacks %s", kinds, kind)
		}
	}
	eventually(t, "notices arrive", func() error {
		if got, want := hook.kinds(), []string{"request.approved", "request.pending"}; !slices.Equal(got, want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
	if len(hook.bad) > 0 {
		t.Errorf("badly signed: %v", hook.bad)
	}
}

// Who breaks the glass gets in, and somebody looks at it afterwards.
func TestBreakGlassIsReviewed(t *testing.T) {
	c, hook := newApprovalCluster(t, func(http.ResponseWriter, *http.Request) {})
	ctx := t.Context()
	if _, err := c.as(c.member("ann", "team")).Exchange(ctx, cred.Request{Target: "api"}); cred.KindOf(err) != cred.Denied {
		t.Errorf("without a reason: %v", err)
	}
	g, err := c.as(c.member("ann", "team")).Exchange(ctx, cred.Request{Target: "api", Reason: "the site is down"})
	if err != nil || g.Token.IsZero() || g.Grant.GetReviewDueTime() == nil {
		t.Fatalf("got %v, %v", g.Grant, err)
	}
	c.restart()
	open, err := c.as(c.member("gus", "security")).Requests(ctx)
	if err != nil || len(open) != 1 || open[0].GetReviewDueTime() == nil {
		t.Fatalf("open: %v, %v", open, err)
	}
	c.review("gus", "security", cred.GrantID(g.Grant.GetId()), true)
	if open, err = c.as(c.member("gus", "security")).Requests(ctx); err != nil || len(open) != 0 {
		t.Errorf("still open: %v, %v", open, err)
	}
	eventually(t, "the notice arrives", func() error {
		if !slices.Contains(hook.kinds(), "break_glass.used") {
			return errors.New("nobody was told")
		}
		return nil
	})
}

// Killed at a random moment among requests, verdicts and claims, the broker comes back with a log that
// verifies and in which every grant has its two approvals, once.
func TestApprovalsAreUsedOnce(t *testing.T) {
	c, _ := newApprovalCluster(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for round := range 4 {
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() { c.oneRelease(ctx, fmt.Sprintf("%d-%d", round, n)) })
		}
		time.AfterFunc(time.Duration(40*(round+1))*time.Millisecond, func() { _ = c.broker.cmd.Process.Kill() })
		<-c.broker.done
		wg.Wait()
		c.startBroker("UPSTREAM_KEY=" + upstreamKey)
	}
	reviews, grants := map[cred.GrantID]int{}, map[cred.GrantID]int{}
	for _, e := range c.export() {
		switch e.Kind {
		case audit.RequestReviewed:
			reviews[e.Grant]++
		case audit.ExchangeGranted:
			grants[e.Grant]++
			if reviews[e.Grant] != 2 || grants[e.Grant] != 1 || len(e.Approvals) != 2 {
				t.Errorf("grant %s: %d verdicts, granted %d times", e.Grant, reviews[e.Grant], grants[e.Grant])
			}
		}
	}
	if len(reviews) == 0 {
		t.Error("nothing was reviewed before the broker was killed")
	}
}

// oneRelease asks, has it approved twice over by everybody at once, and claims it twice. What fails
// because the broker is gone is no fault.
func (c *cluster) oneRelease(ctx context.Context, key string) {
	job := c.as(c.job())
	want := cred.Request{Target: "api", Reason: key, IdempotencyKey: key}
	asked, err := job.Exchange(ctx, want)
	if err != nil {
		return
	}
	id := cred.GrantID(asked.Grant.GetId())
	lead := c.as(c.member("lea", "leads"))
	r, err := lead.Request(ctx, id)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, who := range []string{"lea leads", "lea leads", "gus security", "gus security"} {
		subject, group, _ := strings.Cut(who, " ")
		client := c.as(c.member(subject, group))
		wg.Go(func() { _, _ = client.Review(ctx, id, r.GetDigest(), cred.Verdict{Approve: true}) })
	}
	wg.Wait()
	for range 2 {
		wg.Go(func() { _, _ = job.Exchange(ctx, want, sdk.Claiming(id)) })
	}
	wg.Wait()
}
