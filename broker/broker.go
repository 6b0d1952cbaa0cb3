package broker

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/time/rate"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/broker/quota"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// Log is the audit log as the broker reads it; it writes through store.Tx alone.
type Log interface {
	// Checkpoint returns a signed checkpoint over everything that is durable.
	Checkpoint(ctx context.Context) (audit.Checkpoint, error)
	// Entries yields the entries from, inclusive, to, exclusive, without proofs.
	Entries(ctx context.Context, from, to uint64) iter.Seq2[audit.Exported, error]
	// Prove returns the proof that entry seq is in the tree of a size (RFC 6962, section 2.1.1).
	Prove(ctx context.Context, seq, size uint64) ([]tlog.Hash, error)
	// VerifierKey returns the key that verifies the checkpoints that are signed now.
	VerifierKey() string
	// Trailer returns what ends an export up to a checkpoint: the key that verifies it, and how the log
	// came to that key.
	Trailer(ctx context.Context, c audit.Checkpoint) (audit.Trailer, error)
}

// Keys are the keys that sign grant tokens: a token.KeyRing, or a token.Live where they may change
// while the broker runs.
type Keys interface {
	token.Keys
	Sign(c token.Claims) (string, error)
	JWKS() []byte
}

// Config is what a Broker is made of. Every field is required but MayRedeem, Notify, Roots, Jobs and the durations.
type Config struct {
	URL      string // our own name as an issuer of tokens, an https URL
	Store    store.Store
	Log      Log
	Identity *identity.Verifier
	Policy   *policy.Set // in force until SetPolicy
	Keys     Keys        // see OpenKeys
	Issuers  map[string]issuer.Issuer
	Logger   *slog.Logger
	Now      func() time.Time

	// Notify queues a notice in a transaction, for those whom it concerns; nil: nobody is told.
	Notify func(tx store.Tx, n notice.Notice) error
	// MayRedeem reports whether a proxy may redeem grants for a target; nil: no proxy may.
	MayRedeem func(proxy, target string) bool
	// Roots are the root credentials that can be rotated, and Sign signs the text of a rotation's receipt
	// as a note (C2SP signed-note); it is required where there are roots.
	Roots []Root
	Sign  func(text string) (signed string, err error)

	// RotateTimeout bounds one step of a rotation; one that is older is taken for abandoned, and done
	// again. Its act has three quarters of it, which has to be longer than any source works on a request
	// that changes a root: two minutes and what comes before and after. Zero means 4 min.
	RotateTimeout time.Duration
	// IssueTimeout bounds one call to an issuer; an intent that is older is taken for abandoned.
	// Zero means 20 s.
	IssueTimeout time.Duration
	// SweepInterval is how often Run looks for what is due. Zero means 1 s.
	SweepInterval time.Duration
	// ReconcileInterval is how often Run compares our leases with the lists of the sources that have one.
	// Zero means 10 min, a negative one never.
	ReconcileInterval time.Duration
	// Jobs tells which CI jobs are over, so that their grants end with them; nil: none are watched.
	Jobs Jobs
	// JobsInterval is how often Run asks Jobs. Zero means 30 s.
	JobsInterval time.Duration
}

// Broker is the engine. It is safe for concurrent use.
type Broker struct {
	cfg      Config
	policy   atomic.Pointer[policy.Set] // in force
	tokens   *token.Verifier
	quotas   *quota.Limiter
	watchers watchers // of revocations
	waiters  waiters  // for requests to change
	compared reports  // of leases with the lists of their sources
	lanes    lanes    // in which leases are settled
	owns     owns     // what is minted for the broker itself

	rotations    waiters                   // for rotations to change
	kicked       chan struct{}             // has a value when a rotation has something to do
	nextSchedule atomic.Pointer[time.Time] // before which no schedule is due; nil: unknown, zero: there is none

	held context.Context // ends when no step of a rotation is begun any more
	hold context.CancelFunc

	strangers  *rate.Limiter // how many refusals of unknown callers are recorded
	unrecorded atomic.Int64  // such refusals since the last recorded one that were not
}

// New checks a configuration, records the start and the rule set in force, and returns the broker.
func New(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.URL == "" || cfg.Store == nil || cfg.Log == nil || cfg.Identity == nil || cfg.Policy == nil ||
		cfg.Keys == nil || cfg.Issuers == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, errors.New("broker: the configuration lacks a required part")
	}
	if err := cfg.checkRoots(); err != nil {
		return nil, err
	}
	if cfg.RotateTimeout == 0 {
		cfg.RotateTimeout = 4 * time.Minute
	}
	if cfg.IssueTimeout == 0 {
		cfg.IssueTimeout = 20 * time.Second
	}
	if cfg.SweepInterval == 0 {
		cfg.SweepInterval = time.Second
	}
	if cfg.ReconcileInterval == 0 {
		cfg.ReconcileInterval = 10 * time.Minute
	}
	if cfg.JobsInterval <= 0 {
		cfg.JobsInterval = 30 * time.Second
	}
	if cfg.MayRedeem == nil {
		cfg.MayRedeem = func(string, string) bool { return false }
	}
	b := &Broker{
		cfg:    cfg,
		tokens: token.NewVerifier(cfg.URL, cfg.Keys, cfg.Now),
		quotas: quota.New(cfg.Now),
		kicked: make(chan struct{}, 1),

		strangers: rate.NewLimiter(strangersPerSecond, strangersBurst),
	}
	b.held, b.hold = context.WithCancel(context.Background())
	err := cfg.Store.Update(ctx, func(tx store.Tx) error {
		if err := tx.Append(audit.Event{Kind: audit.BrokerStarted, Time: b.now(), Detail: map[string]any{"url": cfg.URL}}); err != nil {
			return err
		}
		return b.recordPolicy(tx, cfg.Policy)
	})
	if err != nil {
		return nil, err
	}
	b.policy.Store(cfg.Policy)
	return b, nil
}

// URL returns the broker's name as an issuer.
func (b *Broker) URL() string { return b.cfg.URL }

// JWKS returns the public keys that verify grant tokens, as a JWK set (RFC 7517, section 5).
func (b *Broker) JWKS() []byte { return b.cfg.Keys.JWKS() }

// Ready reports why the broker can't serve: nil, or what its store answers.
func (b *Broker) Ready(ctx context.Context) error {
	return b.cfg.Store.View(ctx, func(store.Tx) error { return nil })
}

// now is the broker's clock, in the precision that is stored.
func (b *Broker) now() time.Time { return b.cfg.Now().UTC().Truncate(time.Millisecond) }
