package issuertest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// source mints tokens at POST /mint, ends them at POST /end?token=, and knows which live.
type source struct {
	mu   sync.Mutex // owns live
	live map[string]bool
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.URL.Path {
	case "/mint":
		token := rand.Text()
		s.live[token] = true
		_, _ = io.WriteString(w, token)
	case "/end":
		delete(s.live, r.URL.Query().Get("handle"))
	}
}

func (s *source) works(_ context.Context, c cred.Credential) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live[c.Fields["token"].RevealString()] {
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
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (c *client) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	if !time.Now().Before(spec.NotAfter) && c.flaw != "issues what has ended" {
		return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Invalid, Op: "x", Public: "it has ended"}
	}
	if c.flaw == "no deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	token, err := c.post(ctx, "/mint")
	if err != nil {
		return cred.Credential{}, cred.Lease{}, c.failure(err)
	}
	if c.flaw == "issues twice" {
		_, _ = c.post(ctx, "/mint")
	}
	made := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(token)}}
	lease := cred.Lease{Handle: c.handle(token), Revocable: c.flaw != "says not revocable", NotAfter: spec.NotAfter}
	switch c.flaw {
	case "the same for all":
		if c.kept != nil {
			return *c.kept, lease, nil
		}
		c.kept = &made
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
	if _, err := c.post(ctx, "/end?handle="+strings.ReplaceAll(l.Handle, ".", "")); err != nil && c.flaw != "swallows" {
		return c.failure(err)
	}
	return nil
}

const flawVariable = "DAYPASS_ISSUERTEST_FLAW"

// The suite passes an issuer without flaws. As a child of the next test, it judges one with a flaw.
func TestSuitePassesAGoodIssuer(t *testing.T) {
	s := &source{live: map[string]bool{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, url string) issuer.Issuer {
			return &client{url: url, flaw: os.Getenv(flawVariable), http: &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
		},
		Source: srv.URL, Works: s.works, Alive: s.alive, UnknownHandle: "nobody",
		Spec: func(notAfter time.Time) issuer.Spec {
			return issuer.Spec{ID: cred.NewLeaseID(time.Now()), NotAfter: notAfter, Target: cred.Target{Name: "x"}}
		},
	})
}

func TestSuiteFindsFlaws(t *testing.T) {
	for _, flaw := range []string{
		"issues what has ended", "no deadline", "issues twice", "says not revocable", "later than asked", "does not work",
		"secret in the handle", "says none made", "public cause", "not our error", "revokes nothing", "swallows", "the same for all",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSuitePassesAGoodIssuer$")
			cmd.Env = append(os.Environ(), flawVariable+"="+flaw)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL") {
				t.Errorf("the suite passed an issuer that has a flaw: %v\n%s", err, out)
			}
			t.Log(firstComplaint(string(out)))
		})
	}
}

func firstComplaint(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, ".go:") {
			return strings.TrimSpace(line)
		}
	}
	return fmt.Sprintf("no complaint in %q", out)
}
