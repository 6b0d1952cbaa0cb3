package proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/proxy/mask"
)

// Operation is what a caller wants to do, as the record tells it.
type Operation struct {
	ID       cred.UseID // empty: Begin or Refuse chooses one
	Protocol string     // "http", "postgres", "redis"
	Method   string
	Host     string // the upstream's
	Path     string // without the query
	Peer     string // the caller's network address

	// Cut is called at most once, and not after End has returned, when the session ends while the
	// operation runs. It must not block and must not call End. Nil: Use.Context is enough.
	Cut func()
}

// How an operation ended.
const (
	EndedComplete      = "complete"       // the whole answer reached the caller
	EndedClientGone    = "client_gone"    // the caller left
	EndedUpstreamError = "upstream_error" // the upstream failed, lied or fell silent
	EndedRevoked       = "revoked"        // cut: the grant was revoked
	EndedExpired       = "expired"        // cut: the session's time ran out
	EndedStopped       = "proxy_stopped"  // cut: the proxy stopped
)

// Outcome is how an operation ended, as its front end knows it. That its session ended first is
// known to the Use, and recorded instead of Ended.
type Outcome struct {
	Status   int
	BytesIn  int64  // from the caller
	BytesOut int64  // to the caller
	Ended    string // one of the constants above
	Err      error  // what went wrong, nil if nothing did; its public text is recorded
}

// Use is one operation that has been recorded and may be forwarded.
type Use struct {
	s      *Session
	op     Operation
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	unlink func() bool // takes the operation off the session

	streams []mask.Stream // owner: the goroutine of Mask and End

	mu   sync.Mutex // owns all below
	over bool
	cut  error // why the session ended while the operation ran
}

// Begin records durably that an operation is about to happen, and only then returns its Use. The
// caller must call End. The error is a *cred.Error and a refusal: nothing may be forwarded; it has
// been recorded under the operation's ID.
func (s *Session) Begin(ctx context.Context, op Operation) (*Use, error) {
	op.Path = s.masks.text(op.Path) // before it is cut short: half a secret would not be known
	op = op.identified(s.p.cfg.Now())
	if err := s.admit(); err != nil {
		s.refused(op, err)
		return nil, err
	}
	began := s.p.cfg.Now()
	if err := s.p.recorder.write(s.event(op, audit.UseBegin, began)); err != nil {
		// The log may have it all the same, so the record of the refusal takes the place over.
		s.p.recorder.finish(s.refusal(op, errUnlogged))
		return nil, because(errUnlogged, err)
	}
	u := &Use{s: s, op: op, began: began}
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	u.unlink = context.AfterFunc(s.ctx, u.sever)
	if err := s.alive(); err != nil {
		u.sever()
		u.End(Outcome{Err: err})
		return nil, err
	}
	return u, nil
}

// admit reserves a place in the record for one operation.
func (s *Session) admit() error {
	if err := s.p.Ready(); err != nil {
		return err
	}
	if err := s.alive(); err != nil {
		return err
	}
	if !s.p.recorder.reserve() {
		return errBusy
	}
	return nil
}

// Context is done when the operation must stop: its session has ended, the context of Begin is
// done, or End was called.
func (u *Use) Context() context.Context { return u.ctx }

// ID returns the name under which the use stands in the log.
func (u *Use) ID() cred.UseID { return u.op.ID }

// Session returns the session that the use belongs to.
func (u *Use) Session() *Session { return u.s }

// Mask returns a stream that masks an answer of a content type and passes it to dst: what may be the
// beginning of something to mask is held back until it is known not to be. Close passes on what was
// held back. An answer that broke off must not be closed, since the beginning of a secret might be
// what is held. What was masked is counted in the use's record.
//
// Mask, the stream and End are for one goroutine.
func (u *Use) Mask(contentType string, dst io.Writer) mask.Stream {
	m := u.s.masks.answers.ForContentType(contentType, dst)
	u.streams = append(u.streams, m)
	return m
}

// sever cuts the operation because its session has ended.
func (u *Use) sever() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over || u.cut != nil {
		return
	}
	u.cut = context.Cause(u.s.ctx)
	if u.cut == nil {
		u.cut = errExpired // the clock was ahead of the timer
	}
	u.cancel(u.cut)
	if u.op.Cut != nil {
		u.op.Cut()
	}
}

// Err says why the operation was cut, nil if it was not.
func (u *Use) Err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cut
}

// Abort stops the operation for a reason of its front end's: its Context is done with that cause.
func (u *Use) Abort(cause error) { u.cancel(cause) }

// End queues the second half of the record. It never waits for the log: if that can't take the
// record, the proxy lets no operation begin until it could. Only the first call has an effect.
func (u *Use) End(o Outcome) {
	u.unlink()
	u.mu.Lock()
	if u.over {
		u.mu.Unlock()
		return
	}
	u.over = true
	cut := u.cut
	u.mu.Unlock()
	u.cancel(nil)
	if cut != nil && o.Ended != EndedComplete {
		o.Ended, o.Err = endedBy(cut), cut
	}
	u.s.p.recorder.finish(u.endEvent(o))
}

// endedBy names the end of an operation that was cut.
func endedBy(cause error) string {
	switch {
	case errors.Is(cause, errRevoked):
		return EndedRevoked
	case errors.Is(cause, errExpired):
		return EndedExpired
	default:
		return EndedStopped
	}
}
