package identity

import (
	"math"
	"time"
)

// maxNumericDate is the end of the year 9999, the last that RFC 3339 can write.
const maxNumericDate = 253402300799

// lifetime holds what a token says of times.
type lifetime struct {
	issued   time.Time // iat, zero where a JWT-SVID has none
	expires  time.Time // exp
	ends     time.Time // from when we refuse it
	signedIn time.Time // auth_time, zero where it is absent
}

// checkTimes checks exp, nbf, iat and auth_time. OpenID Connect Core section 2 requires exp and iat;
// JWT-SVID section 3 requires exp alone.
func (p *Provider) checkTimes(claims map[string]any, now time.Time) (lifetime, error) {
	life, err := p.checkEnd(claims, now)
	if err != nil {
		return lifetime{}, err
	}
	if err := p.checkAge(claims, now, &life); err != nil {
		return lifetime{}, err
	}
	if _, err := p.optionalPast(claims, "nbf", "is valid only", now); err != nil {
		return lifetime{}, err
	}
	life.signedIn, err = p.optionalPast(claims, "auth_time", "tells of a sign-in", now)
	return life, err
}

// checkEnd requires that exp, and the provider's EndClaim where the token has it, lie ahead.
func (p *Provider) checkEnd(claims map[string]any, now time.Time) (lifetime, error) {
	exp, err := requiredTime(claims, "exp")
	if err != nil {
		return lifetime{}, err
	}
	claim, end := "exp", exp
	if value, present := p.EndClaim.in(claims); present {
		warned, err := numericDate(p.EndClaim.String(), value)
		if err != nil {
			return lifetime{}, err
		}
		if warned.Before(exp) {
			claim, end = p.EndClaim.String(), warned
		}
	}
	if !now.Before(end.Add(p.Skew)) {
		return lifetime{}, refuse("TOKEN_EXPIRED", claim, "the ID token expired at %s, by its %s, and it is %s now; request a new one", instant(end), claim, instant(now))
	}
	return lifetime{expires: exp, ends: end.Add(p.Skew)}, nil
}

// checkAge bounds the token's age by the provider's MaxAge, and notes what follows from iat.
func (p *Provider) checkAge(claims map[string]any, now time.Time, life *lifetime) error {
	if _, present := claims["iat"]; !present && p.TrustDomain != "" {
		return p.checkRemaining(now, life)
	}
	iat, err := requiredTime(claims, "iat")
	if err != nil {
		return err
	}
	if iat.After(now.Add(p.Skew)) {
		return tooEarly("iat", "was issued", iat, now)
	}
	if now.Sub(iat) > p.MaxAge+p.Skew {
		return refuse("TOKEN_TOO_OLD", "iat", "the ID token was issued at %s and it is %s now; provider %q accepts tokens for %s after that, whatever their exp says; request a new one",
			instant(iat), instant(now), p.Name, p.MaxAge)
	}
	if !life.expires.After(iat) {
		return malformed("exp", "later than iat")
	}
	life.issued = iat
	if oldest := iat.Add(p.MaxAge + p.Skew + time.Nanosecond); oldest.Before(life.ends) {
		life.ends = oldest
	}
	return nil
}

// checkRemaining bounds a token that does not say when it was issued: one that lasts longer than
// MaxAge from now would outlive any token that does.
func (p *Provider) checkRemaining(now time.Time, life *lifetime) error {
	if life.expires.Sub(now) > p.MaxAge+p.Skew {
		return refuse("TOKEN_TOO_OLD", "iat", "the ID token has no iat and ends at %s; provider %q accepts tokens for %s, so without iat it must end within that time", instant(life.expires), p.Name, p.MaxAge)
	}
	return nil
}

// optionalPast reads a time that may be absent, and may not lie ahead.
func (p *Provider) optionalPast(claims map[string]any, name, what string, now time.Time) (time.Time, error) {
	if _, present := claims[name]; !present {
		return time.Time{}, nil
	}
	at, err := requiredTime(claims, name)
	if err == nil && at.After(now.Add(p.Skew)) {
		err = tooEarly(name, what, at, now)
	}
	return at, err
}

func tooEarly(claim, what string, at, now time.Time) error {
	return refuse("TOKEN_NOT_YET_VALID", claim, "the ID token %s from %s, and it is %s now; check the clocks of the issuer and the broker", what, instant(at), instant(now))
}

func requiredTime(claims map[string]any, name string) (time.Time, error) {
	value, present := claims[name]
	if !present {
		return time.Time{}, missing(name)
	}
	return numericDate(name, value)
}

// numericDate reads a NumericDate. RFC 7519 section 2 permits fractions of a second; no issuer sends
// them, and refusing them leaves no question of rounding.
func numericDate(name string, value any) (time.Time, error) {
	seconds, ok := value.(float64)
	if !ok || seconds != math.Trunc(seconds) || seconds < 0 || seconds > maxNumericDate {
		return time.Time{}, malformed(name, "a whole number of seconds since 1970")
	}
	return time.Unix(int64(seconds), 0), nil
}
