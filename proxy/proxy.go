package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

// Verifier checks a grant token without asking anybody; *token.Verifier is one. The error is a
// *cred.Error. It is safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, tok, audience string) (token.Claims, error)
}

// Redeemer turns a grant token into the credential that it stands for. It is called once for each
// grant and principal while the answer is good; the error is a *cred.Error. It is safe for
// concurrent use.
type Redeemer interface {
	Redeem(ctx context.Context, grantToken cred.Secret) (Redemption, error)
}

// Redemption is what a grant token was redeemed for.
type Redemption struct {
	Grant      cred.GrantID
	Lease      cred.LeaseID
	Holder     cred.Principal
	Target     cred.Target
	Credential cred.Credential
	NotAfter   time.Time // the grant's end
}

// Log keeps the record of uses. Append is durable when it returns nil; many concurrent calls may
// share one commit. After an error the events may or may not have been written.
type Log interface {
	Append(ctx context.Context, events ...audit.Event) (first uint64, err error)
}

// Config is what a Proxy needs. Name, Verifier, Redeemer and Log are required; the zero value of
// the others stands for the default named beside them.
type Config struct {
	Name     string // this proxy's name in the log
	Verifier Verifier
	Redeemer Redeemer
	Log      Log

	Serves   func(target string) bool // whether this proxy serves a target; nil: all of them
	Now      func() time.Time         // time.Now
	MaxStale time.Duration            // how old the last sign of the revocation stream may be; 30 s

	MaxUses       int           // operations in flight, those whose end is not yet recorded included; 4096
	MaxSessions   int           // credentials held at once; 16384
	RedeemTimeout time.Duration // for one redemption; 15 s
	LogTimeout    time.Duration // for one append to the log; 5 s
}

// Proxy holds the credentials of live grants and spends them. It is safe for concurrent use.
type Proxy struct {
	cfg      Config
	recorder *recorder
	synced   atomic.Pointer[time.Time]

	ctx     context.Context // parent of every session; its cause says why the proxy stopped
	stop    context.CancelCauseFunc
	flights sync.WaitGroup

	strangers  *rate.Limiter // how many refusals of unknown callers are recorded
	unrecorded atomic.Int64  // refusals since the last recorded one that were not

	mu       sync.RWMutex // owns all below
	sessions map[sessionKey]*Session
	redeems  map[sessionKey]*redeem
	revoked  map[cred.GrantID]time.Time // until when each must be remembered; zero: always
	sweepAt  int                        // size of revoked at which what has run out is dropped
}

// Refusals of callers that show no valid token are recorded up to this many a second; the others
// are counted, and the next record says how many there were. Without a bound anybody could fill
// the disk of a proxy that refuses to work when its disk is full.
const (
	strangersPerSecond = 20
	strangersBurst     = 200
)

// New returns a Proxy that refuses everything until Synced has been called.
func New(cfg Config) (*Proxy, error) {
	if cfg.Name == "" || cfg.Verifier == nil || cfg.Redeemer == nil || cfg.Log == nil {
		return nil, cred.Errorf(cred.Invalid, "proxy.new", "a proxy needs a name, a verifier, a redeemer and a log", "incomplete configuration")
	}
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancelCause(context.Background())
	return &Proxy{
		cfg: cfg, recorder: newRecorder(cfg.Log, cfg.MaxUses, cfg.LogTimeout),
		ctx: ctx, stop: stop,
		strangers: rate.NewLimiter(strangersPerSecond, strangersBurst),
		sessions:  map[sessionKey]*Session{},
		redeems:   map[sessionKey]*redeem{},
		revoked:   map[cred.GrantID]time.Time{},
	}, nil
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Serves == nil {
		c.Serves = func(string) bool { return true }
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{{&c.MaxStale, 30 * time.Second}, {&c.RedeemTimeout, 15 * time.Second}, {&c.LogTimeout, 5 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.def
		}
	}
	if c.MaxUses <= 0 {
		c.MaxUses = 4096
	}
	if c.MaxSessions <= 0 {
		c.MaxSessions = 16384
	}
	return c
}

// Synced tells that every revocation up to an instant has been passed to Revoke: the broker's
// stream said that it is current, or sent a heartbeat after that.
func (p *Proxy) Synced(at time.Time) { p.synced.Store(&at) }

// Revoke ends a grant's sessions, cuts what they have in flight, and refuses the grant until the
// instant at which it would have ended by itself, whether or not it was ever used here. The zero
// instant means for as long as the proxy runs.
func (p *Proxy) Revoke(grant cred.GrantID, until time.Time) {
	for _, s := range p.remember(grant, until) {
		s.end(errRevoked)
	}
}

// clockSkew is how much longer a revocation is remembered, because clocks differ.
const clockSkew = 5 * time.Minute

func (p *Proxy) remember(grant cred.GrantID, until time.Time) []*Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !until.IsZero() {
		until = until.Add(clockSkew)
	}
	if known, ok := p.revoked[grant]; !ok || until.IsZero() || !known.IsZero() && until.After(known) {
		p.revoked[grant] = until
	}
	p.forgetEnded()
	var held []*Session
	for key, s := range p.sessions {
		if key.grant == grant {
			held = append(held, s)
		}
	}
	return held
}

// forgetEnded drops revocations of grants that have ended by themselves, each time their number has
// doubled. The caller holds p.mu.
func (p *Proxy) forgetEnded() {
	if len(p.revoked) < max(p.sweepAt, 1024) {
		return
	}
	now := p.cfg.Now()
	for grant, until := range p.revoked {
		if !until.IsZero() && now.After(until) {
			delete(p.revoked, grant)
		}
	}
	p.sweepAt = 2 * len(p.revoked)
}

// isRevoked reports whether a grant was revoked. The caller holds p.mu.
func (p *Proxy) isRevoked(grant cred.GrantID) bool {
	until, ok := p.revoked[grant]
	return ok && (until.IsZero() || !p.cfg.Now().After(until))
}

// Ready returns nil if an operation may begin now, else why not: the proxy stops, its knowledge of
// revocations is too old, or its log does not take entries.
func (p *Proxy) Ready() error {
	if p.ctx.Err() != nil {
		return errStopped
	}
	if at := p.synced.Load(); at == nil || p.cfg.Now().Sub(*at) > p.cfg.MaxStale {
		return errStale
	}
	return p.recorder.healthy()
}

// Close ends every session, cuts what is in flight, and waits until the ends of all operations are
// recorded or ctx is done; the error tells how many were not. An operation whose front end has not
// called End yet is waited for too.
func (p *Proxy) Close(ctx context.Context) error {
	p.stop(errStopped)
	p.mu.RLock()
	all := make([]*Session, 0, len(p.sessions))
	for _, s := range p.sessions {
		all = append(all, s)
	}
	p.mu.RUnlock()
	for _, s := range all {
		s.end(errStopped)
	}
	p.flights.Wait()
	if err := p.recorder.close(ctx); err != nil {
		return errors.Join(errors.New("proxy: the log is incomplete"), err)
	}
	return nil
}
