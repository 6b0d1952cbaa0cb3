package copilot

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// minLeft is how long a session must still live to be given out.
const minLeft = time.Minute

// session is what GitHub made for the seat.
type session struct {
	token     cred.Secret
	endpoint  string
	refreshAt time.Time
	notAfter  time.Time
}

// refused is GitHub's last refusal. The zero refused is none.
type refused struct {
	seat  cred.Fingerprint
	until time.Time // GitHub is not asked again for this seat before
	err   *cred.Error
}

// at returns what a seat is told at an instant without asking GitHub, nil where it may be asked.
func (r refused) at(seat cred.Fingerprint, now time.Time) error {
	if r.seat != seat || !now.Before(r.until) {
		return nil
	}
	e := *r.err
	e.RetryAfter = r.until.Sub(now)
	return &e
}

func (s session) usable(now time.Time) bool { return s.notAfter.Sub(now) >= minLeft }

// flight is one request for a session, and the callers that wait for it.
type flight struct {
	over    chan struct{} // closed when the outcome is there
	seat    cred.Fingerprint
	session session // owner, like err: the flight's goroutine until over is closed
	err     error
}

// current returns a session that lives for a minute or more. From refresh_in on a new one is fetched
// behind the callers' backs, in one flight for all of them, while they still get the old one; once
// that is nearly over they wait. A refusal holds for as long as GitHub says, for all callers: one who asks
// on and on looks to GitHub like what it blocks seats for. A seat whose token was exchanged starts anew.
func (i *Issuer) current(ctx context.Context) (session, error) {
	seat, err := i.readSeat(ctx)
	if err != nil {
		return session{}, err
	}
	s, f, err := i.look(seat)
	if f == nil {
		return s, err
	}
	select {
	case <-f.over:
		return f.session, f.err
	case <-ctx.Done():
		return session{}, &cred.Error{Kind: cred.Unavailable, Op: "copilot.issue", Public: publicGone, Err: context.Cause(ctx)}
	}
}

// look returns what there is for a seat: a session, a refusal that holds, or the flight to wait for.
func (i *Issuer) look(seat cred.Secret) (session, *flight, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return session{}, nil, issuer.NotIssued("copilot.issue", "", publicClosed, errors.New("copilot: closed"))
	}
	now, s := time.Now(), i.session
	usable := i.seat == seat.Fingerprint() && s.usable(now)
	if usable && now.Before(s.refreshAt) {
		return s, nil, nil
	}
	refusal := i.refused.at(seat.Fingerprint(), now)
	switch {
	case usable && refusal == nil:
		i.join(seat)
		return s, nil, nil
	case usable:
		return s, nil, nil
	case refusal != nil:
		return session{}, nil, refusal
	}
	return session{}, i.join(seat), nil
}

// join returns the flight that is under way for a seat, or starts one. The caller holds mu.
func (i *Issuer) join(seat cred.Secret) *flight {
	if f := i.flight; f != nil && f.seat == seat.Fingerprint() {
		return f
	}
	f := &flight{over: make(chan struct{}), seat: seat.Fingerprint()}
	i.flight = f
	i.flying.Go(func() { i.fly(f, seat) })
	return f
}

// fly fetches. It does not end with any one caller.
func (i *Issuer) fly(f *flight, seat cred.Secret) {
	defer close(f.over)
	ctx, cancel := context.WithTimeout(i.life, i.cfg.Timeout)
	defer cancel()
	f.session, f.err = i.fetch(ctx, seat)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flight != f { // another seat's has taken its place
		return
	}
	i.flight = nil
	if f.err == nil {
		i.session, i.seat = f.session, f.seat
		return
	}
	if e, ok := errors.AsType[*cred.Error](f.err); ok && e.RetryAfter > 0 {
		i.refused = refused{seat: f.seat, until: time.Now().Add(e.RetryAfter), err: e}
	}
	if i.seat == f.seat {
		i.session.refreshAt = time.Now().Add(minLeft) // no more than one attempt a minute, while the old one lives
	}
}

func (i *Issuer) readSeat(ctx context.Context) (cred.Secret, error) {
	seat, err := i.cfg.Seat(ctx)
	if err == nil && !tokenapi.Printable(seat.RevealString()) {
		err = errors.New("copilot: the seat's token is empty, or no header can carry it")
	}
	if err != nil {
		return cred.Secret{}, issuer.NotIssued("copilot.seat", "", publicSeatFile, err)
	}
	return seat, nil
}
