package proxy

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

var (
	errNoToken = refusal(cred.Unauthenticated, "token_missing",
		"no grant token was sent; send one as a bearer token, in X-Api-Key, or as the password of basic authentication; one that is bound to a key as a DPoP token")
	errTwoTokens = refusal(cred.Invalid, "token_twice", "credentials were sent in more than one way; send the grant token in one header alone")
	errBadBasic  = refusal(cred.Invalid, "basic_malformed", "the Authorization header's basic credentials can't be decoded")
)

// carried is the grant token of a request and the way in which it came.
type carried struct {
	token cred.Secret
	dpop  bool // under the scheme DPoP, which promises a proof besides
}

// grantToken returns the token that a request carries: as a bearer token (RFC 6750, section 2.1), as
// a DPoP token (RFC 9449, section 7.1), in X-Api-Key, or as the password of basic credentials (RFC
// 7617), whose user name is not looked at. It must be there exactly once.
func grantToken(h http.Header) (carried, error) {
	auth, key := h["Authorization"], h["X-Api-Key"]
	switch {
	case len(auth)+len(key) == 0:
		return carried{}, errNoToken
	case len(auth)+len(key) > 1:
		return carried{}, errTwoTokens
	case len(key) == 1:
		return nonEmpty(strings.TrimSpace(key[0]))
	}
	scheme, value, _ := strings.Cut(auth[0], " ")
	value = strings.TrimSpace(value)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return nonEmpty(value)
	case strings.EqualFold(scheme, "DPoP"):
		c, err := nonEmpty(value)
		c.dpop = true
		return c, err
	case strings.EqualFold(scheme, "Basic"):
		return basicPassword(value)
	}
	return carried{}, errNoToken
}

func basicPassword(value string) (carried, error) {
	pair, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return carried{}, errBadBasic
	}
	_, password, ok := strings.Cut(string(pair), ":")
	if !ok {
		return carried{}, errBadBasic
	}
	return nonEmpty(password)
}

func nonEmpty(s string) (carried, error) {
	if s == "" {
		return carried{}, errNoToken
	}
	return carried{token: cred.SecretString(s)}, nil
}
