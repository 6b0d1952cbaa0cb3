package jobs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/daypass-io/daypass/cred"
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
	if !usable(c.API, c.AllowPlain) {
		return nil, invalid(c, "the API's address must be an https URL such as "+kind.api+", without a query and without a slash at its end", nil)
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	roots, err := readCAs(c.CAFile)
	if err != nil {
		return nil, invalid(c, "the file with the API's CA certificates can't be used", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 8
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return &source{
		cfg: c, jobs: kind.jobs, now: now, known: map[string]*answer{},
		http: &http.Client{
			Transport: transport, Timeout: c.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// usable reports whether a token may be sent to a URL.
func usable(base string, allowPlain bool) bool {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || base[len(base)-1] == '/' {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && allowPlain && loopback
}

func readCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return pool, nil
}

func invalid(c Config, public string, err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "jobs", Reason: "JOBS_CONFIG",
		Public: fmt.Sprintf("the jobs of provider %q can't be watched: %s", c.Provider, public), Err: err,
	}
}
