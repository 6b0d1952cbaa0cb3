package login

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/url"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
)

// Browser signs in with a browser on this machine: authorization code with PKCE (S256 alone), on a
// loopback redirect that takes one request.
func (f Flow) Browser(ctx context.Context) (Session, error) {
	i, err := discover(ctx, f.Client, f.Method)
	if err != nil {
		return Session{}, err
	}
	if i.Authorization == "" || len(i.Challenges) > 0 && !slices.Contains(i.Challenges, "S256") {
		return Session{}, fault(cred.Invalid, "NO_BROWSER_FLOW", nil, "the issuer %s does not sign in applications in a browser with PKCE (S256); try --device", f.Method.Issuer)
	}
	back, err := awaitCallback(ctx, f.Port)
	if err != nil {
		return Session{}, err
	}
	defer back.close()
	return f.browse(ctx, i, back)
}

func (f Flow) browse(ctx context.Context, i *issuer, back *callback) (Session, error) {
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	cfg, began := i.config(back.url()), f.now()
	options := append(f.reauthenticate(), oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	f.send(ctx, cfg.AuthCodeURL(state, options...))
	ctx, cancel := context.WithTimeout(ctx, browserTimeout)
	defer cancel()
	answer, err := back.wait(ctx)
	if err != nil {
		return Session{}, tokenError(f.Method.Issuer, err)
	}
	code, err := i.code(answer, state)
	if err != nil {
		return Session{}, err
	}
	tok, err := cfg.Exchange(i.with(ctx), code, oauth2.VerifierOption(verifier))
	if err != nil {
		return Session{}, tokenError(f.Method.Issuer, err)
	}
	return i.session(ctx, tok, f.expect(nonce, began))
}

// send brings the person to a page.
func (f Flow) send(ctx context.Context, page string) {
	if f.Open != nil && f.Open(ctx, page) == nil {
		fmt.Fprintf(f.Out, "Sign in in the browser. If none has opened, open this page:\n\n  %s\n\n", page)
		return
	}
	fmt.Fprintf(f.Out, "Open this page in a browser on this machine to sign in:\n\n  %s\n\n", page)
}

// code returns the code of an authorization response (RFC 6749, section 4.1.2) that is an answer to our
// request, and from the issuer that was asked (RFC 9207).
func (i *issuer) code(answer url.Values, state string) (string, error) {
	for _, name := range []string{"code", "state", "iss", "error", "error_description"} {
		if len(answer[name]) > 1 {
			return "", fault(cred.Denied, "LOGIN_ANSWER", nil, "the browser brought an answer that has %s twice; sign in again", name)
		}
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(state)) != 1 {
		return "", fault(cred.Denied, "LOGIN_STATE", nil, "the browser brought an answer to another request than ours; sign in again")
	}
	if iss := answer.Get("iss"); iss != i.method.Issuer && (iss != "" || i.SaysIssuer) {
		return "", fault(cred.Denied, "LOGIN_ISSUER", nil, "the browser brought an answer that is not from %s; sign in again", i.method.Issuer)
	}
	if code := answer.Get("error"); code != "" {
		return "", issuerSaid(i.method.Issuer, code, answer.Get("error_description"), "")
	}
	if answer.Get("code") == "" {
		return "", fault(cred.Denied, "LOGIN_ANSWER", nil, "the browser brought an answer without a code; sign in again")
	}
	return answer.Get("code"), nil
}
