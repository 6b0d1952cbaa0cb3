package issuertest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// source mints tokens at POST /mint, ends them at POST /end?handle=, lets them live until another instant
// at POST /renew?handle=&end=, and lists those that live at POST /list.
type source struct {
	mu   sync.Mutex           // owns live
	live map[string]time.Time // their ends
}

// longAway is when a token ends that was not asked to end earlier.
const longAway = 24 * time.Hour

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	handle := r.URL.Query().Get("handle")
	end, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("end"))
	if err != nil {
		end = time.Now().Add(longAway)
	}
	switch r.URL.Path {
	case "/mint":
		token := rand.Text()
		s.live[token] = end
		_, _ = io.WriteString(w, token)
	case "/end":
		delete(s.live, handle)
	case "/renew":
		if _, ok := s.live[handle]; !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		s.live[handle] = end
	case "/list":
		for token := range s.live {
			_, _ = io.WriteString(w, token[:8]+"\n")
		}
	}
}

func (s *source) works(_ context.Context, c cred.Credential) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(s.live[c.Fields["token"].RevealString()]) {
		return errors.New("refused")
	}
	return nil
}

func (s *source) alive(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live), nil
}

// client is an issuer of such a source; flaw names what is wrong with it, if anything.
type client struct {
	url, flaw string
	http      *http.Client
	kept      *cred.Credential
	listed    []string // by the flaw "lists the ended"
}

func (c *client) post(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound {
		return "", errUnknown
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

var errUnknown = errors.New("the source does not know it")

func (c *client) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	if !time.Now().Before(spec.NotAfter) && c.flaw != "issues what has ended" {
		return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Invalid, Op: "x", Public: "it has ended"}
	}
	if c.flaw == "no deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	end := spec.NotAfter
	if spec.Target.Name == brief {
		end = time.Now().Add(time.Second)
	}
	token, err := c.post(ctx, "/mint?end="+query(end))
	if err != nil {
		return cred.Credential{}, cred.Lease{}, c.failure(err)
	}
	if c.flaw == "issues twice" {
		_, _ = c.post(ctx, "/mint")
	}
	made := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(token)}}
	lease := cred.Lease{Handle: c.handle(token), Revocable: c.flaw != "says not revocable", Renewable: spec.Target.Name == brief, NotAfter: end}
	switch c.flaw {
	case "the same for all":
		if c.kept != nil {
			return *c.kept, lease, nil
		}
		c.kept = &made
	case "its holder's end is later":
		made.NotAfter = lease.NotAfter.Add(time.Second)
	case "later than asked":
		lease.NotAfter = lease.NotAfter.Add(time.Hour)
	case "does not work":
		made.Fields["token"] = cred.SecretString("else")
	}
	return made, lease, nil
}

// handle hides the token from a look for the token itself, which is all that these tests need.
func (c *client) handle(token string) string {
	if c.flaw == "secret in the handle" {
		return token
	}
	return token[:8] + "." + token[8:]
}

func (c *client) failure(err error) error {
	switch c.flaw {
	case "says none made":
		return &cred.Error{Kind: cred.Invalid, Op: "x", Public: "no", Err: err}
	case "public cause":
		return &cred.Error{Kind: cred.Unavailable, Op: "x", Public: err.Error(), Err: err}
	case "not our error":
		return err
	}
	if strings.Contains(err.Error(), "connection refused") {
		err = errors.Join(issuer.ErrNotIssued, err)
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "x", Public: "the source does not answer", Err: err}
}

func (c *client) Revoke(ctx context.Context, l cred.Lease) error {
	if c.flaw == "revokes nothing" {
		return nil
	}
	if _, err := c.post(ctx, "/end?handle="+plain(l.Handle)); err != nil && c.flaw != "swallows" {
		return c.failure(err)
	}
	return nil
}

func (c *client) Lost(asked time.Time) (time.Time, string) {
	switch c.flaw {
	case "loses for too short a time":
		return asked.Add(time.Minute), "it ends by itself"
	case "loses without a note":
		return time.Time{}, ""
	}
	return asked.Add(longAway), "it ends by itself"
}

// brief is the target whose credentials end within a second.
const brief = "brief"

func query(at time.Time) string { return url.QueryEscape(at.UTC().Format(time.RFC3339Nano)) }

func plain(handle string) string { return strings.ReplaceAll(handle, ".", "") }

func (c *client) Renew(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error) {
	switch {
	case l.Handle == "" && c.flaw != "renews nothing in particular", !time.Now().Before(until) && c.flaw != "renews into the past":
		return time.Time{}, &cred.Error{Kind: cred.Invalid, Op: "x", Public: "it can't be renewed"}
	case c.flaw == "renews nothing":
		return until, nil
	case until.Before(l.NotAfter) && c.flaw != "shortens":
		return l.NotAfter, nil
	case c.flaw == "renews for too long":
		until = until.Add(time.Minute)
	}
	if c.flaw == "no deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	_, err := c.post(ctx, "/renew?handle="+plain(l.Handle)+"&end="+query(until))
	if c.flaw == "renews what is gone" && errors.Is(err, errUnknown) || c.flaw == "swallows a renewal" {
		err = nil
	}
	switch {
	case errors.Is(err, errUnknown):
		return time.Time{}, &cred.Error{Kind: cred.NotFound, Op: "x", Public: "it is gone", Err: err}
	case err != nil:
		return time.Time{}, c.failure(err)
	}
	return until, nil
}

func (c *client) Live(ctx context.Context) ([]string, error) {
	text, err := c.post(ctx, "/list")
	if c.flaw == "lists nothing" || c.flaw == "lists nothing on failure" && err != nil {
		text, err = "", nil
	}
	switch {
	case c.flaw == "a part with an error" && err != nil:
		return []string{"a"}, c.failure(err)
	case err != nil:
		return nil, c.failure(err)
	}
	if c.flaw == "lists the ended" {
		c.listed = append(c.listed, strings.Fields(text)...)
		return c.listed, nil
	}
	return strings.Fields(text), nil
}

func (c *client) NameOf(l cred.Lease) string {
	if c.flaw == "knows no names" {
		return ""
	}
	name, _, _ := strings.Cut(l.Handle, ".")
	return name[:min(len(name), 8)]
}

// newClient returns one with the flaw that this process is to have.
func newClient(url string) *client {
	return &client{url: url, flaw: os.Getenv(flawVariable), http: &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

const flawVariable = "DAYPASS_ISSUERTEST_FLAW"

// The suite passes an issuer without flaws. As a child of the next test, it judges one with a flaw.
func TestSuitePassesAGoodIssuer(t *testing.T) {
	s := &source{live: map[string]time.Time{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	spec := func(target string) func(time.Time) issuer.Spec {
		return func(notAfter time.Time) issuer.Spec {
			return issuer.Spec{ID: cred.NewLeaseID(time.Now()), NotAfter: notAfter, Target: cred.Target{Name: target}}
		}
	}
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, url string) issuer.Issuer {
			c := newClient(url)
			if c.flaw == "loses" {
				return struct {
					issuer.Issuer
					issuer.Renewer
					issuer.Lister
				}{c, c, c}
			}
			return c
		},
		Source: srv.URL, Works: s.works, Alive: s.alive, UnknownHandle: "nobody",
		Spec: spec("x"), Brief: spec(brief),
	})
}

// lasting is a client whose source can't end a token early, and that may have made one under a reservation.
type lasting struct{ *client }

func (c lasting) Reserve(_ context.Context, spec issuer.Spec) (string, error) {
	return "r." + string(spec.ID), nil
}

func (c lasting) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	made, l, err := c.client.Issue(ctx, spec)
	l.Revocable = false
	return made, l, err
}

func (c lasting) Revoke(_ context.Context, l cred.Lease) error {
	if strings.HasPrefix(l.Handle, "r.") && c.flaw == "pretends" {
		return nil
	}
	return &cred.Error{Kind: cred.Invalid, Op: "x", Public: "it lives until its end"}
}

// The same for an issuer that can't revoke.
func TestSuitePassesAnIssuerThatCantRevoke(t *testing.T) {
	s := &source{live: map[string]time.Time{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, url string) issuer.Issuer {
			return lasting{newClient(url)}
		},
		Source: srv.URL, Works: s.works, Alive: s.alive, UnknownHandle: "nobody", NotRevocable: true,
		Spec: func(notAfter time.Time) issuer.Spec {
			return issuer.Spec{ID: cred.NewLeaseID(time.Now()), NotAfter: notAfter, Target: cred.Target{Name: "x"}}
		},
	})
}

// The flaws, by the part of the suite that has to find them.
var flaws = map[string][]string{
	"issues|refuses|revokes|keeps|source|faults|loses": {
		"loses", "loses for too short a time", "loses without a note", "its holder's end is later",
		"issues what has ended", "no deadline", "issues twice", "says not revocable", "later than asked", "does not work",
		"secret in the handle", "says none made", "public cause", "not our error", "revokes nothing", "swallows", "the same for all",
	},
	"renew": {
		"renews nothing", "renews nothing in particular", "renews into the past", "shortens", "renews for too long",
		"renews what is gone", "swallows a renewal",
	},
	"list": {"lists nothing", "lists nothing on failure", "a part with an error", "lists the ended", "knows no names"},
	"life": {"no deadline"},
}

func TestSuiteFindsFlaws(t *testing.T) {
	for part, all := range flaws {
		for _, flaw := range all {
			t.Run(flaw, func(t *testing.T) { wantFound(t, "^TestSuitePassesAGoodIssuer$/^("+part+")", flaw) })
		}
	}
	t.Run("pretends", func(t *testing.T) { wantFound(t, "^TestSuitePassesAnIssuerThatCantRevoke$/^faults", "pretends") })
}

// wantFound runs a part of the suite over an issuer with a flaw, and wants it to fail.
func wantFound(t *testing.T, run, flaw string) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run="+run)
	cmd.Env = append(os.Environ(), flawVariable+"="+flaw)
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL") {
		t.Errorf("the suite passed an issuer that has a flaw: %v\n%s", err, out)
	}
	t.Log(firstComplaint(string(out)))
}

func firstComplaint(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, ".go:") {
			return strings.TrimSpace(line)
		}
	}
	return fmt.Sprintf("no complaint in %q", out)
}
