// Package copilot gives out session tokens of GitHub Copilot, made from the OAuth token of a seat.
//
// The endpoint is GitHub's own and no public contract: it may change or refuse at any time, and GitHub
// tells programs that make tokens by script from editors, and may block their seats. Nothing here runs
// unless an issuer of this kind is configured.
//
// A session token belongs to the seat, not to a lease: all leases share it until it is about to end.
// Nothing can revoke it. So it never reaches a caller: only targets that are spent through a proxy may
// use it.
package copilot

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	defaultURL     = "https://api.github.com/copilot_internal/v2/token"
	defaultTimeout = 10 * time.Second
	defaultAgent   = "daypass"
)

// Loader reads a secret. It is called for each request, so that a changed one is picked up.
type Loader func(ctx context.Context) (cred.Secret, error)

// Config says whose seat it is.
type Config struct {
	Seat Loader // the OAuth token (gho_, ghu_) of the user who has the seat

	URL        string   // empty: GitHub.com's
	Hosts      []string // hosts, and parents of hosts, that a session may name as its API; empty: githubcopilot.com
	AllowPlain bool     // permit http to loopback addresses
	CAFile     string   // PEM certificates to trust; empty: the system's

	// What the broker says that it is. GitHub refuses some clients by these headers.
	UserAgent           string // empty: "daypass"
	EditorVersion       string // Editor-Version; empty: it is not sent
	EditorPluginVersion string // Editor-Plugin-Version; the same

	Timeout time.Duration // for one request; zero: 10 s
}

// Issuer gives out the session of one seat. It is an issuer.Issuer, safe for concurrent use.
type Issuer struct {
	cfg  Config
	http *tokenapi.Client

	life   context.Context // of requests; ends with Close
	cancel context.CancelFunc
	flying sync.WaitGroup

	mu      sync.Mutex // owns what follows
	session session    // the newest; the zero session is over
	seat    cred.Fingerprint
	flight  *flight // that is under way; nil for none
	refused refused
	closed  bool
}

// New returns an issuer that has asked nothing yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	if cfg.URL == "" {
		cfg.URL = defaultURL
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = defaultAgent
	}
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []string{"githubcopilot.com"}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.User != nil || u.Fragment != "" || !allowedScheme(u, cfg.AllowPlain) {
		return nil, invalidConfig("the URL of Copilot's tokens must begin with https://", "bad URL")
	}
	if cfg.Seat == nil {
		return nil, invalidConfig("a Copilot issuer needs the OAuth token of a seat", "no seat")
	}
	h, err := newHTTP(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	i := &Issuer{cfg: cfg, http: &tokenapi.Client{HTTP: h, Timeout: cfg.Timeout}}
	i.life, i.cancel = context.WithCancel(context.Background())
	return i, nil
}

func newHTTP(caFile string) (*http.Client, error) {
	client, err := outbound.Client(caFile)
	if err != nil {
		return nil, invalidConfig("the file with GitHub's CA certificates can't be used", err.Error())
	}
	client.Transport.(*http.Transport).DisableKeepAlives = true // a request in half an hour; and net/http repeats no GET then
	return client, nil
}

// Close ends what is under way.
func (i *Issuer) Close() error {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.cancel()
	i.flying.Wait()
	return nil
}

// lostLife is how long a session counts as alive of which no answer came: twice the 25 to 30 minutes that
// have been seen.
const lostLife = time.Hour

// Lost returns the end of a session that an attempt may have made, and a note for people; see
// issuer.Unfindable.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	return asked.Add(i.cfg.Timeout + lostLife), "GitHub's answer was lost: GitHub lists no Copilot sessions, so one that was made can't be revoked and ends by itself, after some half an hour; nobody has it"
}

// Check reads the seat's token and asks GitHub nothing.
func (i *Issuer) Check(ctx context.Context) error {
	_, err := i.readSeat(ctx)
	return err
}

// Issue gives out the seat's session: fields token, and endpoint, the base URL of the API that the
// session is for. It refuses, with kind Invalid, a target that delivers to the caller.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	if err := check(spec); err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	s, err := i.current(ctx)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	c := cred.Credential{Type: cred.Bearer, NotAfter: s.notAfter, Fields: map[string]cred.Secret{
		"token": s.token, "endpoint": cred.SecretString(s.endpoint),
	}}
	l := cred.Lease{NotAfter: s.notAfter, Note: "a Copilot session token can't be revoked: it is valid until its own end"}
	if s.notAfter.After(spec.NotAfter) {
		l.Note += ", which is later than was asked"
	}
	return c, l, nil
}

func check(spec issuer.Spec) error {
	from := spec.Target.Credential
	switch {
	case spec.Target.Deliver != cred.DeliverProxy:
		return refuse("COPILOT_NEEDS_PROXY", "a Copilot session serves the whole seat and can't be revoked, so it is never handed to a caller; deliver this target through a proxy")
	case from.Type != "" && from.Type != cred.Bearer, len(from.Fields) > 0, len(from.Params) > 0:
		return refuse("TARGET_UNFIT", "a target of a Copilot seat is of type bearer, and has neither fields nor params")
	case !time.Now().Before(spec.NotAfter):
		return refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	return nil
}

// Revoke refuses: nothing ends a session but its own end.
func (i *Issuer) Revoke(context.Context, cred.Lease) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "copilot.revoke", Reason: "NOT_REVOCABLE",
		Public: "a Copilot session token can't be revoked; it ends by itself within half an hour",
	}
}

func allowedScheme(u *url.URL, allowPlain bool) bool {
	if u.Host == "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && allowPlain && err == nil && ip.IsLoopback()
}

// apiURL returns a session's API, or an error where it is none that the operator trusts: the proxy is
// going to send there what callers write.
func (cfg *Config) apiURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || !allowedScheme(u, cfg.AllowPlain) {
		return "", errors.New("copilot: the session's endpoints.api is no https URL")
	}
	host := strings.ToLower(u.Hostname())
	for _, h := range cfg.Hosts {
		if host == h || strings.HasSuffix(host, "."+h) {
			return text, nil
		}
	}
	return "", errors.New("copilot: the session's endpoints.api names a host that is not among those configured")
}
