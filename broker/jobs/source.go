package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

const (
	// maxAnswer bounds what is read of an answer; GitHub's of a run takes some 20 KiB.
	maxAnswer = 1 << 20
	// fresh is how long an answer counts for the other grants of a job.
	fresh = 5 * time.Second
	// kept is how long an answer's ETag is kept after it was last used, and maxKept how many are.
	kept    = time.Hour
	maxKept = 20_000
)

// question is one way to ask for a job.
type question struct {
	place  string                        // see Config.Token
	path   string                        // below the API's address
	read   func([]byte) (verdict, error) // of an answer with status 200
	orElse bool                          // where there is no such thing, the next question may tell
	header map[string]string
}

// verdict is what an answer says.
type verdict struct {
	ended bool
	why   string
}

// source asks one provider.
type source struct {
	cfg  Config
	jobs func(cred.Principal) []question
	now  func() time.Time
	http *http.Client

	mu    sync.Mutex
	known map[string]*answer // by path; owner: mu, as is until
	until time.Time          // it limits us: no request before
}

// answer is what is known of one job.
type answer struct {
	mu      sync.Mutex // held while it is asked for
	verdict verdict
	etag    string
	at      time.Time // zero: never

	used time.Time // owner: source.mu
}

// ask returns what the API says now, or said a moment ago. A job that is over stays over.
func (s *source) ask(ctx context.Context, q question) (verdict, error) {
	a := s.answer(q.path)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.at.IsZero() && (a.verdict.ended || s.now().Sub(a.at) < fresh) {
		return a.verdict, nil
	}
	if wait := s.limited(); wait > 0 {
		return verdict{}, limited(s.cfg.Provider, wait)
	}
	return a.verdict, s.refresh(ctx, q, a)
}

// answer returns the answer of a path, and forgets those that nobody has asked for in a while.
func (s *source) answer(path string) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	a := s.known[path]
	if a == nil {
		if len(s.known) >= maxKept {
			s.forget(now)
		}
		a = &answer{}
		s.known[path] = a
	}
	a.used = now
	return a
}

func (s *source) forget(now time.Time) {
	for path, a := range s.known {
		if now.Sub(a.used) > kept {
			delete(s.known, path)
		}
	}
	if len(s.known) >= maxKept { // all are in use: they are asked for anew
		clear(s.known)
	}
}

func (s *source) limited() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until.Sub(s.now())
}

// refresh sends a question and notes what came back.
func (s *source) refresh(ctx context.Context, q question, a *answer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.API+q.path, nil)
	if err != nil {
		return cred.Errorf(cred.Internal, "jobs", "", "%w", err)
	}
	req.Header.Set("User-Agent", "daypass")
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	if s.cfg.Token != nil {
		token, err := s.cfg.Token(ctx, q.place)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token.RevealString())
	}
	if a.etag != "" {
		req.Header.Set("If-None-Match", a.etag)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return s.away(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return s.away(err)
	}
	return s.take(q, a, resp, body)
}

func (s *source) take(q question, a *answer, resp *http.Response, body []byte) error {
	switch {
	case resp.StatusCode == http.StatusNotModified && a.etag != "":
	case resp.StatusCode != http.StatusOK:
		return s.refused(resp)
	default:
		v, err := q.read(body)
		if err != nil {
			return err
		}
		a.verdict, a.etag = v, resp.Header.Get("ETag")
	}
	a.at = s.now()
	return nil
}

func (s *source) away(err error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "jobs", Reason: "JOBS_UNREACHABLE",
		Public: fmt.Sprintf("the API of provider %q does not answer, so nobody knows whether a job is over", s.cfg.Provider), Err: err,
	}
}

// refused turns a status into an error, and notes where the API limits us.
func (s *source) refused(resp *http.Response) error {
	status := fmt.Errorf("status %d", resp.StatusCode)
	name := s.cfg.Provider
	if wait := limitOf(resp, s.now()); wait > 0 {
		s.mu.Lock()
		s.until = s.now().Add(wait)
		s.mu.Unlock()
		return limited(name, wait)
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &cred.Error{
			Kind: cred.Denied, Op: "jobs", Reason: "JOBS_FORBIDDEN",
			Public: fmt.Sprintf("the token for provider %q may not read jobs; GitHub needs actions: read, GitLab read_api", name), Err: status,
		}
	case http.StatusNotFound, http.StatusMovedPermanently, http.StatusGone:
		return &cred.Error{
			Kind: cred.NotFound, Op: "jobs", Reason: "JOB_UNKNOWN",
			Public: fmt.Sprintf("provider %q knows no such job, or the token may not see it", name), Err: status,
		}
	}
	return s.away(status)
}

func limited(name string, wait time.Duration) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "jobs", Reason: "JOBS_LIMITED", RetryAfter: wait,
		Public: fmt.Sprintf("the API of provider %q limits how often it may be asked", name),
	}
}

// decode reads an answer.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "jobs", Reason: "JOBS_UNREADABLE",
			Public: "a CI provider's answer can't be read, so nobody knows whether a job is over", Err: err,
		}
	}
	return nil
}
