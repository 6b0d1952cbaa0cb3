package jobs

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

// Config says how the jobs of one identity provider are asked for. The zero values of all fields but
// Provider and Kind work.
type Config struct {
	Provider string // the identity provider's name, see cred.Principal.Provider
	Kind     string // "github" or "gitlab"
	// API is where the API is: by default https://api.github.com or https://gitlab.com/api/v4. It is an
	// https URL; http on loopback where AllowPlain is set.
	API        string
	AllowPlain bool
	CAFile     string // PEM; empty: the system's
	// Token returns the token to ask with for a job of a repository (GitHub, "owner/name") or of a
	// project (GitLab, its number). It is called for each request. nil: public jobs alone.
	Token func(ctx context.Context, place string) (cred.Secret, error)
	// Timeout bounds one request. Zero means 10 s.
	Timeout time.Duration
}

// Watcher tells whether jobs are over. It is safe for concurrent use.
type Watcher struct {
	sources map[string]*source
}

// kinds are the providers that are known, and where their API is by default.
var kinds = map[string]struct {
	api  string
	jobs func(cred.Principal) []question
}{
	"github": {"https://api.github.com", githubJobs},
	"gitlab": {"https://gitlab.com/api/v4", gitlabJobs},
}

// New returns a Watcher. The error says which configuration is wrong. now is the clock, say time.Now.
func New(all []Config, now func() time.Time) (*Watcher, error) {
	w := &Watcher{sources: map[string]*source{}}
	for _, c := range all {
		if _, twice := w.sources[c.Provider]; twice || c.Provider == "" {
			return nil, invalid(c, "each provider has one way to ask for its jobs, and a name", nil)
		}
		s, err := newSource(c, now)
		if err != nil {
			return nil, err
		}
		w.sources[c.Provider] = s
	}
	return w, nil
}

// Ended reports whether the job that a principal is of is over, and how it ended, for people. It is
// false for principals of providers that are not watched, and for those whose claims name no job.
//
// An error says that nobody knows: Unavailable where the API did not answer, or where it limits us, with
// RetryAfter; Denied where the token may not ask; NotFound where the API knows no such job, or hides it.
func (w *Watcher) Ended(ctx context.Context, p cred.Principal) (ended bool, why string, err error) {
	s, ok := w.sources[p.Provider]
	if !ok {
		return false, "", nil
	}
	for _, q := range s.jobs(p) {
		v, err := s.ask(ctx, q)
		if err != nil && cred.KindOf(err) == cred.NotFound && q.orElse {
			continue
		}
		return v.ended, v.why, err
	}
	return false, "", nil
}

func newSource(c Config, now func() time.Time) (*source, error) {
	kind, ok := kinds[c.Kind]
	if !ok {
		return nil, invalid(c, `the kind is "github" or "gitlab"`, nil)
	}
	if c.API == "" {
		c.API = kind.api
	}
	if !outbound.Usable(c.API, c.AllowPlain) || strings.HasSuffix(c.API, "/") {
		return nil, invalid(c, "the API's address must be an https URL such as "+kind.api+", without a query and without a slash at its end", nil)
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	client, err := outbound.Client(c.CAFile)
	if err != nil {
		return nil, invalid(c, "the file with the API's CA certificates can't be used", err)
	}
	client.Timeout = c.Timeout
	return &source{cfg: c, jobs: kind.jobs, now: now, known: map[string]*answer{}, http: client}, nil
}

func invalid(c Config, public string, err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "jobs", Reason: "JOBS_CONFIG",
		Public: fmt.Sprintf("the jobs of provider %q can't be watched: %s", c.Provider, public), Err: err,
	}
}
