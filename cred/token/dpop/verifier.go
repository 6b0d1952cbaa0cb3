package dpop

import (
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Options sets up a Verifier. The zero value of each field stands for the default named beside it.
type Options struct {
	Now    func() time.Time // time.Now
	MaxAge time.Duration    // from a proof's iat until it is taken no more; 60 s
	Skew   time.Duration    // how far the caller's clock and ours may differ; 5 s, negative: none

	// Nonces that a proof must have one of. Nil: none is asked for.
	Nonces *Nonces

	// MaxProofs is how many proofs are remembered; 524,288, which is 8,000 a second and takes about
	// 50 MiB. Where there is no room the Verifier refuses, with Kind Unavailable.
	MaxProofs int
}

// Verifier verifies proofs and takes each one once. A process needs exactly one for all that it
// serves under one URL; a second one would take every proof again. It is safe for concurrent use.
type Verifier struct {
	o     Options
	seen  *replays
	start time.Time
}

// New returns a Verifier.
func New(o Options) *Verifier {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxAge <= 0 {
		o.MaxAge = time.Minute
	}
	if o.Skew == 0 {
		o.Skew = 5 * time.Second
	}
	o.Skew = max(o.Skew, 0)
	if o.MaxProofs <= 0 {
		o.MaxProofs = 1 << 19
	}
	return &Verifier{o: o, seen: newReplays(o.MaxProofs), start: o.Now().Truncate(time.Second)}
}

// Nonce returns the nonce to send in a DPoP-Nonce header, empty where none is asked for.
func (v *Verifier) Nonce() string {
	if v.o.Nonces == nil {
		return ""
	}
	return v.o.Nonces.Current()
}

// Want is what a proof must be for.
type Want struct {
	Method string // of the request, e.g. "GET"
	URL    string // of the request as its caller sees it; query and fragment don't count

	// AccessToken is the token that comes with the proof, which the proof must then name. Empty: none
	// comes, and one that the proof names does not matter.
	AccessToken string
	// Thumbprint of the key that must have signed, as in a token's cnf.jkt. Empty: any.
	Thumbprint string
}

// Verify reads a proof, as Parse does, and checks that it is for the wanted request, made just now,
// and never seen before (RFC 9449, section 4.3). A proof that verifies is used up.
//
// The error is a *cred.Error. Its Kind is Unauthenticated, with one of the Reasons above; or
// Unavailable with DPOP_CROWDED. For USE_DPOP_NONCE the answer must bring Nonce.
func (v *Verifier) Verify(proof string, want Want) (Proof, error) {
	p, err := Parse(proof)
	if err != nil {
		return Proof{}, err
	}
	if err := p.matches(want); err != nil {
		return Proof{}, err
	}
	now := v.o.Now()
	if err := v.inTime(p, now); err != nil {
		return Proof{}, err
	}
	if v.o.Nonces != nil && !v.o.Nonces.Valid(p.Nonce) {
		return Proof{}, refuse(ReasonUseNonce, "this DPoP proof lacks the nonce of the header DPoP-Nonce, or has an old one; make a fresh one with that nonce", nil)
	}
	return p, v.once(p, now)
}

var errNoURL = errors.New("dpop: the request's own URL can't be read")

// matches checks what a proof is for.
func (p Proof) matches(want Want) error {
	switch {
	case want.Thumbprint != "" && p.Thumbprint != want.Thumbprint:
		return refuse(ReasonKeyMismatch, "this DPoP proof is by another key than the one that the token is bound to; sign it with the key that the token was asked for with", nil)
	case p.Method != want.Method:
		return invalid("it is for another method than this request's", nil)
	case want.AccessToken != "" && p.TokenHash != TokenHash(want.AccessToken):
		return invalid("its ath does not name the token that came with it", nil)
	}
	here, ok := normalized(want.URL)
	if !ok {
		return &cred.Error{Kind: cred.Internal, Op: "dpop.verify", Err: errNoURL}
	}
	if there, ok := normalized(p.URL); !ok || there != here {
		scheme, rest, _ := strings.Cut(here, "://")
		host, _, _ := strings.Cut(rest, "/")
		return invalid("it is for another URL than this request's, which this side knows as one of "+scheme+"://"+host, nil)
	}
	return nil
}

// inTime checks when a proof was made. Without nonces nobody knows whether a proof from before this
// process began has been used, so none is taken.
func (v *Verifier) inTime(p Proof, now time.Time) error {
	switch {
	case p.IssuedAt.After(now.Add(v.o.Skew)), p.notBefore.After(now.Add(v.o.Skew)):
		return invalid("it comes from the future; check this host's clock", nil)
	case now.After(v.end(p)), !p.expires.IsZero() && now.After(p.expires.Add(v.o.Skew)):
		return invalid("it is too old; check this host's clock", nil)
	case v.o.Nonces == nil && p.IssuedAt.Before(v.start):
		return invalid("it was made before this process began", nil)
	}
	return nil
}

// end is the last instant at which a proof is taken.
func (v *Verifier) end(p Proof) time.Time { return p.IssuedAt.Add(v.o.MaxAge + v.o.Skew) }

func (v *Verifier) once(p Proof, now time.Time) error {
	switch v.seen.take(idOf(p), v.end(p), now) {
	case seenBefore:
		return refuse(ReasonReplayed, "this DPoP proof has been used before; make a fresh one for each request", nil)
	case tooOld:
		return invalid("it is too old; check this host's clock", nil)
	case crowded:
		return &cred.Error{
			Kind: cred.Unavailable, Op: "dpop.verify", Reason: ReasonCrowded,
			Public: "more DPoP proofs come in than can be remembered, so this one is refused; try again with a fresh one in a moment",
		}
	}
	return nil
}
