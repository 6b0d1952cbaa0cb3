package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
)

// browserTimeout is how long a person may take to sign in in a browser.
const browserTimeout = 5 * time.Minute

// Flow signs somebody in. Method, Client and Out are required.
type Flow struct {
	Method Method
	Client *http.Client // as NewClient makes it
	Out    io.Writer    // where the person is told what to do
	Fresh  bool         // have the person sign in again, even if the issuer remembers them
	Port   int          // of the loopback redirect; zero: any that is free

	// Open shows a URL in a browser; nil where the person is to open it.
	Open func(ctx context.Context, url string) error
	Now  func() time.Time // nil: time.Now
}

func (f Flow) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

// reauthenticate asks the issuer to have the person sign in again (OpenID Connect Core, section
// 3.1.2.1). prompt alone could be ignored unseen; with max_age the token must say when it happened.
func (f Flow) reauthenticate() []oauth2.AuthCodeOption {
	if !f.Fresh {
		return nil
	}
	return []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0")}
}

// expect returns what the ID token of a flow that began at an instant must say.
func (f Flow) expect(nonce string, began time.Time) expectation {
	want := expectation{nonce: nonce, now: f.now()}
	if f.Fresh {
		want.since = began
	}
	return want
}

// tokenError gives a failure at a token or device endpoint words for people. What the issuer said is
// shown, since it is often the only hint; callers print it escaped.
func tokenError(issuer string, err error) error {
	refused, isRefusal := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return fault(cred.Unavailable, "LOGIN_ENDED", err, "the sign-in was given up")
	case errors.Is(err, context.DeadlineExceeded):
		return fault(cred.Expired, "LOGIN_EXPIRED", err, "the sign-in took too long and has ended; start it again")
	case !isRefusal:
		return fault(cred.Unavailable, "ISSUER_SILENT", withoutURL(err), "the issuer %s can't be reached; try again", issuer)
	}
	return issuerSaid(issuer, refused.ErrorCode, refused.ErrorDescription, statusOf(refused))
}

// issuerSaid is an issuer's refusal (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5).
func issuerSaid(issuer, code, description, otherwise string) error {
	switch code {
	case "access_denied":
		return fault(cred.Denied, "LOGIN_DENIED", nil, "the sign-in was refused at %s", issuer)
	case "expired_token", "token_expired": // GitHub's pages have the second
		return fault(cred.Expired, "LOGIN_EXPIRED", nil, "the code has expired before somebody entered it; start the sign-in again")
	case "":
		return fault(cred.Unavailable, "ISSUER_ANSWER", nil, "the issuer %s gave an answer that can't be read%s", issuer, otherwise)
	}
	if description != "" {
		description = ": " + description
	}
	return fault(cred.Denied, "ISSUER_REFUSED", nil, "the issuer %s refused with %s%s", issuer, code, description)
}

func statusOf(e *oauth2.RetrieveError) string {
	if e.Response == nil {
		return ""
	}
	return fmt.Sprintf(" (HTTP status %d)", e.Response.StatusCode)
}

// withoutURL leaves the URL of a failed request out, which may hold a code.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
