// Package vault mints credentials from HashiCorp Vault or OpenBao.
//
// The issuer signs in once and holds one token in memory, which it renews long before its end. Each
// lease gets a token of its own, a child of that one, whose life ends with the lease: Reserve makes
// it, Issue reads the credential with it. Vault ends a secret together with the token that read it,
// so a credential ends in time even if daypass is gone, and the child's accessor, known before
// anything is minted, is enough to take back whatever was minted with it.
//
// Vault's API is described at https://developer.hashicorp.com/vault/api-docs. The rights that the
// issuer's own token needs are listed at Check.
package vault

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/flights"
)

// defaultTimeout bounds one request to Vault.
const defaultTimeout = 10 * time.Second

// Config says where Vault is and how to sign in to it.
type Config struct {
	Address   string // base URL, e.g. "https://vault.example.com:8200"
	Namespace string // Vault Enterprise and OpenBao; empty for none
	CAFile    string // PEM certificates to trust; empty: the system's

	// Exactly one of these says how to sign in.
	JWT        *JWT
	Kubernetes *Kubernetes
	AppRole    *AppRole
	TokenFile  *TokenFile

	// TokenRole makes each lease's token through auth/token/create/ROLE. A token role with
	// orphan=true makes leases independent of the issuer's own token, which nobody renews once the
	// broker has stopped or signed in anew, and which then ends within its period.
	TokenRole string

	// Paths are the paths that targets read, e.g. "database/creds/orders-ro", for Check to look at and
	// Live to list. SetPaths replaces them.
	Paths []string

	// AuditDevice is the path of one of Vault's audit devices, e.g. "file". Where it is set, the note of
	// each lease says how that device's log names the secret that was minted (sys/audit-hash), so that
	// an entry there can be joined with ours; it costs one request more. It is left out where Vault
	// does not allow it.
	AuditDevice string

	// Timeout bounds each request to Vault; zero means 10 s.
	Timeout time.Duration
}

// Issuer mints from one Vault. It is an issuer.Issuer, an issuer.Reserver, an issuer.Renewer and an
// issuer.Lister, safe for concurrent use.
type Issuer struct {
	cfg    Config
	client *client
	broker *keeper
	mounts mounts
	calm   *calm

	flying *flights.Group // requests that mint

	paths atomic.Pointer[[]string] // see Config.Paths; what it points to does not change

	mu       sync.Mutex         // owns what follows
	children map[string]child   // reserved and not yet spent, by accessor
	flights  map[string]*flight // that are minting now, by accessor
	turns    map[string]*turn   // leases that are being renewed or revoked now, by accessor
	signing  []string           // the transit paths that signers were made for
}

// New returns an issuer that has not yet signed in. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	signIn, err := cfg.signIn()
	if err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if err := checkDevice(cfg.AuditDevice); err != nil {
		return nil, err
	}
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	i := &Issuer{
		cfg: cfg, client: c, broker: newKeeper(c, signIn, cfg.Timeout),
		mounts: mounts{known: map[string]mount{}}, children: map[string]child{}, flights: map[string]*flight{}, turns: map[string]*turn{},
		calm: newCalm(), flying: flights.New(),
	}
	i.SetPaths(cfg.Paths)
	return i, nil
}

// SetPaths replaces Config.Paths, where targets have been added or taken out.
func (i *Issuer) SetPaths(paths []string) {
	paths = slices.Clone(paths)
	i.paths.Store(&paths)
}

// Close waits for requests that are minting now, for no longer than Timeout, and stops renewing the
// issuer's own token. It does not revoke that token, since that would end every lease: it lives on
// for its period, and so do its leases; see Config.TokenRole for those that must live longer.
func (i *Issuer) Close() error {
	i.flying.Close(i.cfg.Timeout)
	i.broker.close()
	i.client.http.CloseIdleConnections()
	return nil
}

// asBroker makes a request with the issuer's own token. Where Vault refuses it because that token is
// gone, it signs in anew and tries once more. The request must be one that may be repeated.
func (i *Issuer) asBroker(ctx context.Context, r request) (*api.Secret, error) {
	for again := true; ; again = false {
		s, err := i.broker.current(ctx)
		if err != nil {
			return nil, err
		}
		r.token = s.token
		answer, err := i.client.doRetrying(ctx, r)
		if statusOf(err) != 403 || !again || !i.broker.lost(ctx, s) {
			return answer, err
		}
	}
}

// signIn returns the one way to sign in that is configured.
func (cfg Config) signIn() (signIn, error) {
	var ways []signIn
	if cfg.JWT != nil {
		ways = append(ways, cfg.JWT)
	}
	if cfg.Kubernetes != nil {
		ways = append(ways, cfg.Kubernetes)
	}
	if cfg.AppRole != nil {
		ways = append(ways, cfg.AppRole)
	}
	if cfg.TokenFile != nil {
		ways = append(ways, cfg.TokenFile)
	}
	if len(ways) != 1 {
		return nil, invalidConfig("say one way to sign in to Vault: jwt, kubernetes, approle or token_file", errors.New("vault: not exactly one way to sign in"))
	}
	return ways[0], ways[0].complete()
}

func invalidConfig(public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "vault.config", Public: public, Err: err}
}
