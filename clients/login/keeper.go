package login

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/userstate"
)

// Keeper keeps the sign-in of one person at one broker. It is safe for concurrent use, by several
// processes too: one of them refreshes, the others wait for it.
type Keeper struct {
	State  *userstate.Dir
	Broker string       // its URL
	Client *http.Client // reaches the issuer; as NewClient makes it
	Now    func() time.Time
}

// The Reasons of errors after which the person has to sign in.
const (
	ReasonSignedOut = "SIGNED_OUT"    // nobody is signed in
	ReasonEnded     = "SIGN_IN_ENDED" // the sign-in is good no more
)

func signIn(reason string, cause error, text string) error {
	return fault(cred.Unauthenticated, reason, cause, "%s; sign in with 'daypass login'", text)
}

func (k Keeper) name() string { return userstate.Name("login", k.Broker) }

// Save keeps a sign-in, in place of the one before it.
func (k Keeper) Save(ctx context.Context, s Session) error {
	unlock, err := k.State.Lock(ctx, k.name())
	if err != nil {
		return err
	}
	defer unlock()
	if s.Refresh.IsZero() {
		err = k.State.DropSecret(k.name())
	} else {
		err = k.State.KeepSecret(k.name(), s.Refresh)
	}
	return errors.Join(err, k.keep(ctx, s))
}

func (k Keeper) keep(ctx context.Context, s Session) error {
	b, err := s.encode()
	if err != nil {
		return err
	}
	return k.State.Keep(ctx, k.name(), b)
}

// Current returns the sign-in as it is kept, without its refresh token. Where there is none the
// error's Reason is ReasonSignedOut.
func (k Keeper) Current() (Session, error) {
	b, err := k.State.Load(k.name())
	if errors.Is(err, fs.ErrNotExist) {
		return Session{}, signIn(ReasonSignedOut, err, "you are not signed in")
	}
	if err != nil {
		return Session{}, err
	}
	s, err := decodeSession(b)
	if err != nil {
		return Session{}, signIn(ReasonEnded, err, "your sign-in can't be read")
	}
	return s, nil
}

// IDToken returns an ID token that is good for a while, refreshed where it is about to end. An issuer
// that does not answer is no matter while the present one lasts.
func (k Keeper) IDToken(ctx context.Context) (cred.Secret, error) {
	s, err := k.Current()
	if err != nil {
		return cred.Secret{}, err
	}
	if s.fresh(k.Now()) {
		return s.IDToken, nil
	}
	next, err := k.refresh(ctx)
	if err != nil && cred.KindOf(err) == cred.Unavailable && k.Now().Before(s.ExpiresAt) {
		return s.IDToken, nil
	}
	return next.IDToken, err
}

// refresh gets the next ID token, unless another process has done so meanwhile.
func (k Keeper) refresh(ctx context.Context) (Session, error) {
	unlock, err := k.State.Lock(ctx, k.name())
	if err != nil {
		return Session{}, err
	}
	defer unlock()
	s, err := k.Current()
	if err != nil || s.fresh(k.Now()) {
		return s, err
	}
	s.Refresh, err = k.State.Secret(k.name())
	switch {
	case errors.Is(err, fs.ErrNotExist) && k.Now().Before(s.ExpiresAt):
		return s, nil
	case errors.Is(err, fs.ErrNotExist):
		return Session{}, signIn(ReasonEnded, err, "your sign-in has ended")
	case err != nil:
		return Session{}, err
	}
	return k.renew(ctx, s)
}
