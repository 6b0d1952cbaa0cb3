package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/internal/jws"
	"github.com/golang-jwt/jwt/v5"
)

// Keys finds the public key that a token's header names. The error is a *cred.Error: Unavailable
// where keys can't be had, Unauthenticated where there is no such key.
type Keys interface {
	Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error)
}

// MaxSkew is the most that clocks may differ.
const MaxSkew = 30 * time.Second

// Verifier verifies the grant tokens of one broker. It is safe for concurrent use.
type Verifier struct {
	issuer       string
	keys         Keys
	now          func() time.Time
	skew         time.Duration
	restrictions map[string]bool
	cache        *cache
}

// Option changes how a Verifier works.
type Option func(*Verifier)

// Skew sets how far the broker's clock and ours may differ: exp, nbf and iat are given that much.
// It is 5 s where nothing else is said and MaxSkew at most.
func Skew(d time.Duration) Option {
	return func(v *Verifier) { v.skew = min(max(d, 0), MaxSkew) }
}

// Restrictions names the restrictions that the caller of Verify knows and enforces. Tokens with any
// other one are refused; where this option is not given, tokens with any at all.
func Restrictions(names ...string) Option {
	return func(v *Verifier) {
		for _, name := range names {
			v.restrictions[name] = true
		}
	}
}

// CacheSize sets how many verified tokens are remembered; 4096 where nothing else is said, and none
// for 0. Remembering saves the signature's arithmetic alone, see Verify.
func CacheSize(n int) Option {
	return func(v *Verifier) { v.cache = newCache(n) }
}

// NewVerifier returns a Verifier of the tokens of an issuer: the exact string of their iss.
func NewVerifier(issuer string, keys Keys, now func() time.Time, options ...Option) *Verifier {
	v := &Verifier{
		issuer: issuer, keys: keys, now: now, skew: 5 * time.Second,
		restrictions: make(map[string]bool), cache: newCache(4096),
	}
	for _, o := range options {
		o(v)
	}
	return v
}

// Verify returns the claims of a grant token that holds now and is for one audience, the expected
// one. See RFC 9068, section 4.
//
// The error is a *cred.Error. Its Kind is Denied, with Reason UNKNOWN_RESTRICTION, for a token that
// says something which can't be enforced here; Unavailable where the broker's keys can't be had;
// else Unauthenticated, with a Reason among TOKEN_MALFORMED, TOKEN_TOO_LARGE, TOKEN_ALGORITHM,
// WRONG_TYPE, UNKNOWN_KEY, BAD_SIGNATURE, MISSING_CLAIM, WRONG_ISSUER, WRONG_AUDIENCE,
// TOKEN_EXPIRED and TOKEN_NOT_YET_VALID, and the Claim that failed.
//
// A token that verified before is known by the SHA-256 of all its bytes, and its signature is not
// computed again. All that can change is still checked each time: that the issuer publishes the
// same key, the time, and the audience.
func (v *Verifier) Verify(ctx context.Context, tok, audience string) (Claims, error) {
	if len(tok) > MaxBytes { // before anything is computed of it
		return Claims{}, refuse("TOKEN_TOO_LARGE", "", "this grant token is too long; send it exactly as the broker made it")
	}
	sum := sha256.Sum256([]byte(tok))
	e, cached, err := v.recall(ctx, sum)
	if err != nil {
		return Claims{}, err
	}
	if !cached {
		if e, err = v.read(ctx, tok); err != nil {
			return Claims{}, err
		}
	}
	now := v.now()
	if err := v.holds(e.claims, audience, now); err != nil {
		return Claims{}, err
	}
	if !cached {
		v.cache.put(sum, e, now)
	}
	return e.claims.clone(), nil
}

// recall finds a token that verified before, unless its key is no longer the one under that name.
func (v *Verifier) recall(ctx context.Context, sum [sha256.Size]byte) (entry, bool, error) {
	e, ok := v.cache.get(sum, v.now())
	if !ok {
		return entry{}, false, nil
	}
	public, err := v.keys.Key(ctx, e.kid, e.alg)
	if err != nil {
		return entry{}, false, err
	}
	return e, e.public.Equal(public), nil
}

// read checks all of a token that holds at any time and for any audience.
func (v *Verifier) read(ctx context.Context, tok string) (entry, error) {
	p, err := jws.Parse(tok, MaxBytes)
	if err != nil {
		return entry{}, err
	}
	if err := checkHeader(p.Header); err != nil {
		return entry{}, err
	}
	key, err := v.keys.Key(ctx, p.Header.Kid, p.Header.Alg)
	if err != nil {
		return entry{}, err
	}
	public, err := checkSignature(p, key)
	if err != nil {
		return entry{}, refuse("BAD_SIGNATURE", "", "this grant token's signature does not verify; send it exactly as the broker made it")
	}
	c, err := readClaims(p.Payload)
	if err != nil {
		return entry{}, err
	}
	if c.Issuer != v.issuer {
		return entry{}, refuse("WRONG_ISSUER", "iss", "this grant token was issued by another broker than the one that is trusted here")
	}
	for name := range c.Grant.Restrictions {
		if !v.restrictions[name] {
			return entry{}, unknownRestriction("daypass.restrictions", "this grant token has a restriction that is not known here")
		}
	}
	return entry{kid: p.Header.Kid, alg: p.Header.Alg, public: public, claims: c}, nil
}

func checkHeader(h jws.Header) error {
	switch typ := strings.ToLower(h.Typ); {
	case typ != typGrant && typ != "application/"+typGrant:
		return refuse("WRONG_TYPE", "typ", "this is not a grant token; exchange your identity token for one first")
	case h.Alg != ES256 && h.Alg != EdDSA:
		return refuse("TOKEN_ALGORITHM", "alg", "this token is not signed with an algorithm that the broker uses; send a grant token")
	case h.Kid == "":
		return refuse("MISSING_CLAIM", "kid", "this token does not name its key; send a grant token exactly as the broker made it")
	}
	return nil
}

// publicKey is what both types of public key offer.
type publicKey interface{ Equal(crypto.PublicKey) bool }

var errKeyType = errors.New("token: the key is not one that the algorithm verifies with")

// checkSignature trusts the key's own type, not the header's word for it.
func checkSignature(p jws.Parsed, key crypto.PublicKey) (publicKey, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if p.Header.Alg != ES256 || k.Curve != elliptic.P256() {
			return nil, errKeyType
		}
		return k, jwt.SigningMethodES256.Verify(p.SigningInput, p.Signature, k)
	case ed25519.PublicKey:
		if p.Header.Alg != EdDSA {
			return nil, errKeyType
		}
		return k, jwt.SigningMethodEdDSA.Verify(p.SigningInput, p.Signature, k)
	}
	return nil, errKeyType
}

// holds checks what depends on the instant and on who asks.
func (v *Verifier) holds(c Claims, audience string, now time.Time) error {
	switch {
	case c.Audience[0] != audience:
		return refuse("WRONG_AUDIENCE", "aud", "this grant token is for another target; ask the broker for a token for this one")
	case !now.Before(c.ExpiresAt.Add(v.skew)):
		return refuse("TOKEN_EXPIRED", "exp", "this grant token has expired; ask the broker for a fresh one")
	case now.Add(v.skew).Before(c.NotBefore):
		return refuse("TOKEN_NOT_YET_VALID", "nbf", "this grant token is not valid yet; check the clocks of this host and of the broker")
	case now.Add(v.skew).Before(c.IssuedAt):
		return refuse("TOKEN_NOT_YET_VALID", "iat", "this grant token comes from the future; check the clocks of this host and of the broker")
	}
	return nil
}
