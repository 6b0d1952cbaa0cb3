package github

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// GitHub takes a JWT that ends within ten minutes by its clock and does not begin in the future.
// Ours begins a minute ago and ends in nine, so that a minute's difference between the clocks does
// no harm.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
const (
	jwtBackdated = time.Minute
	jwtLife      = 9 * time.Minute
	jwtReuse     = 5 * time.Minute // a JWT is sent for so long after it was signed

	maxSkew = 10 * time.Minute // a clock that is further off is refused, not corrected
)

// appTokens signs the JWTs by which the app identifies itself.
type appTokens struct {
	app    string
	signer Signer
	now    func() time.Time

	mu       sync.Mutex // owns what follows
	token    cred.Secret
	signedAt time.Time     // by our clock
	skew     time.Duration // how far GitHub's clock is ahead of ours, where that once mattered
}

// current returns a JWT that GitHub should take. Who comes at the same time may sign one more.
func (a *appTokens) current(ctx context.Context) (cred.Secret, error) {
	now := a.now()
	a.mu.Lock()
	token, age, skew := a.token, now.Sub(a.signedAt), a.skew
	a.mu.Unlock()
	if !token.IsZero() && age >= 0 && age < jwtReuse {
		return token, nil
	}
	token, err := a.sign(ctx, now.Add(skew))
	if err != nil {
		return cred.Secret{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.skew == skew {
		a.token, a.signedAt = token, now
	}
	return token, nil
}

func (a *appTokens) sign(ctx context.Context, now time.Time) (cred.Secret, error) {
	input, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer: a.app, IssuedAt: jwt.NewNumericDate(now.Add(-jwtBackdated)), ExpiresAt: jwt.NewNumericDate(now.Add(jwtLife)),
	}).SigningString()
	if err != nil {
		return cred.Secret{}, cred.Errorf(cred.Internal, "github.sign", "", "encode: %w", err)
	}
	signature, err := a.signer.SignRS256(ctx, []byte(input))
	if err != nil {
		return cred.Secret{}, issuer.NotIssued("github.sign", "", "the broker can't sign as its GitHub App; its operator has to look at the app's private key", err)
	}
	return cred.SecretString(input + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// refused learns from a 401: the next JWT is signed anew, by GitHub's clock if ours differs from it.
// A clock that is too far off is an error.
func (a *appTokens) refused(token cred.Secret, header http.Header) error {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token == token {
		a.token = cred.Secret{}
	}
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return nil
	}
	switch skew := date.Sub(now).Round(time.Second); {
	case skew.Abs() > maxSkew:
		return issuer.NotIssued("github.sign", "", "the broker's clock differs from GitHub's by more than ten minutes; its operator has to set it right",
			fmt.Errorf("github: GitHub's clock is %v ahead of ours", skew))
	case skew.Abs() > time.Second: // the header has whole seconds
		a.skew = skew
	default:
		a.skew = 0
	}
	return nil
}

// asApp sends a request as the app. Where GitHub does not take the JWT it signs another one, by
// GitHub's clock and with the key as it is now, and sends the request once more: what was answered
// with 401 did nothing.
func asApp[T any](ctx context.Context, i *Issuer, send func(jwt cred.Secret) (T, error)) (T, error) {
	for again := true; ; again = false {
		token, err := i.app.current(ctx)
		if err != nil {
			var none T
			return none, err
		}
		got, err := send(token)
		failed := tokenapi.CallOf(err)
		if failed == nil || failed.Answer.Status != http.StatusUnauthorized {
			return got, err
		}
		if skewed := i.app.refused(token, failed.Answer.Header); skewed != nil {
			return got, skewed
		}
		if !again {
			return got, err
		}
	}
}
