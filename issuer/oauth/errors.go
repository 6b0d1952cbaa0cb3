package oauth

import (
	"context"
	"errors"
	"net/http"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicGone    = "this service's token server can't be reached; try again in a moment"
	publicLost    = "the token server did not answer, so it is not known whether a token was made; try again"
	publicBusy    = "the token server limits how often the broker may ask; try again in a moment"
	publicClient  = "the token server does not accept the broker as its client; the broker's operator has to look at the client's ID, secret or key"
	publicSubject = "the token server does not accept the broker's ID token; the broker's operator has to look at the trust that is set up there"
	publicRefused = "the token server refused to make this token; the target's scopes, audience or resource are not what it allows"
	publicOdd     = "the token server answered with something that is no token, so it is not known whether one was made; the broker's operator has to look at the token URL"
	publicSecret  = "the broker can't read the secret that it needs for this service; its operator has to look at it"
	publicDead    = "the broker's sign-in at this service has ended; its operator has to sign in there again and replace the refresh token"
	publicKeep    = "the broker can't keep the refresh token of this service safe, so it uses it no more; its operator has to look at the file that holds it"
	publicClosed  = "the broker is shutting down; try again in a moment"
)

// minting turns the failure of a token request into our error. A server that names an error has made
// nothing; with 5xx, no answer, or one that can't be read, it may have gone further.
func minting(grant Grant, err error) error {
	e, ok := errors.AsType[*tokenapi.Error](err)
	switch {
	case !ok:
		return issuer.NotIssued("oauth.issue", "", publicGone, err)
	case e.Unsent:
		return issuer.NotIssued("oauth.issue", "", publicGone, e)
	case e.Busy():
		return retryLater(publicBusy, e)
	case e.Open():
		return lost(publicOfOpen(e.Status), e)
	}
	return refusedBy(grant, e)
}

func publicOfOpen(status int) string {
	if status == 0 || status >= 500 {
		return publicLost
	}
	return publicOdd
}

// refusedBy reads the codes of RFC 6749, section 5.2, and RFC 8693, section 2.2.2. The last names
// invalid_request for a bad subject token, where others say invalid_grant.
func refusedBy(grant Grant, e *tokenapi.Error) error {
	switch e.Code {
	case "invalid_client", "unauthorized_client":
		return issuer.NotIssued("oauth.issue", "", publicClient, e)
	case "invalid_grant":
		if grant == RefreshToken {
			return issuer.NotIssued("oauth.issue", "REFRESH_TOKEN_DEAD", publicDead, e)
		}
		return issuer.NotIssued("oauth.issue", "", publicSubject, e)
	case "":
		if e.Status == http.StatusUnauthorized {
			if grant == TokenExchange || grant == JWTBearer {
				return issuer.NotIssued("oauth.issue", "", publicSubject, e)
			}
			return issuer.NotIssued("oauth.issue", "", publicClient, e)
		}
	}
	return &cred.Error{Kind: cred.Invalid, Op: "oauth.issue", Reason: "SOURCE_REFUSED", Public: publicRefused, Err: e}
}

func retryLater(public string, e *tokenapi.Error) *cred.Error {
	out := issuer.NotIssued("oauth.issue", "", public, e)
	out.RetryAfter = e.RetryAfter
	return out
}

// lost is an Unavailable that leaves open whether a token was made.
func lost(public string, err error) *cred.Error {
	return &cred.Error{Kind: cred.Unavailable, Op: "oauth.issue", Public: public, Err: err}
}

func refuse(reason, public string) error { return tokenapi.Refuse("oauth.issue", reason, public) }

// errLeft is why a caller gets nothing that did not wait.
func errLeft(ctx context.Context) error { return lost(publicLost, context.Cause(ctx)) }
