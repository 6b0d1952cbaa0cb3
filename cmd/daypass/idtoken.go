package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/jws"
)

// maxTokenBytes bounds what is read as a token.
const maxTokenBytes = 64 << 10

// idTokens finds the caller's ID token: a file, the environment, the CI job's own token service, or the
// person's sign-in.
func (c *connection) idTokens(stdin io.Reader) sdk.TokenSource {
	return func(ctx context.Context) (cred.Secret, error) {
		if tok, err := c.givenToken(ctx, stdin); err != nil || !tok.IsZero() {
			return tok, err
		}
		return c.loginToken(ctx)
	}
}

// givenToken is the ID token of this one call, empty where there is none.
func (c *connection) givenToken(ctx context.Context, stdin io.Reader) (cred.Secret, error) {
	switch {
	case c.idTokenFile != "":
		return readTokenFile(c.idTokenFile, stdin)
	case strings.TrimSpace(os.Getenv("DAYPASS_ID_TOKEN")) != "":
		return cred.SecretString(strings.TrimSpace(os.Getenv("DAYPASS_ID_TOKEN"))), nil
	case os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") != "":
		return githubToken(ctx, c.tokenAudience())
	}
	return cred.Secret{}, nil
}

// loginToken is the ID token of the person's sign-in, refreshed where it is about to end.
func (c *connection) loginToken(ctx context.Context) (cred.Secret, error) {
	k, err := c.keeper(os.Stderr)
	if err != nil {
		return cred.Secret{}, err
	}
	tok, err := k.IDToken(ctx)
	return tok, explainSignedOut(err)
}

// explainSignedOut names all the ways to say who one is.
func explainSignedOut(err error) error {
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != login.ReasonSignedOut {
		return err
	}
	return cli.HintedError{
		Err:  errors.New("no ID token was found, so the broker can't tell who you are"),
		Hint: "sign in with 'daypass login'; or give --id-token-file, set DAYPASS_ID_TOKEN, or in GitHub Actions add 'permissions: id-token: write' to the job",
	}
}

// holder tells who the caller is, without a look at the broker; a sign-in need not be refreshed for it.
func (c *connection) holder(stdin io.Reader) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		tok, err := c.givenToken(ctx, stdin)
		if err != nil {
			return "", err
		}
		if tok.IsZero() {
			return c.signedIn()
		}
		p, err := jws.Parse(tok.RevealString(), maxTokenBytes)
		return fmt.Sprintf("%q %q", p.Claims["iss"], p.Claims["sub"]), err
	}
}

func (c *connection) signedIn() (string, error) {
	k, err := c.keeper(os.Stderr)
	if err != nil {
		return "", err
	}
	s, err := k.Current()
	return fmt.Sprintf("%q %q", s.Method.Issuer, s.Subject), explainSignedOut(err)
}

// readTokenFile reads a token from a file, or from stdin where its name is "-".
func readTokenFile(name string, stdin io.Reader) (cred.Secret, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return cred.Secret{}, fmt.Errorf("the token can't be read: %w", err)
		}
		defer f.Close()
		stdin = f
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxTokenBytes+1))
	if err != nil {
		return cred.Secret{}, fmt.Errorf("the token can't be read: %w", err)
	}
	tok := strings.TrimSpace(string(b))
	switch {
	case tok == "":
		return cred.Secret{}, errors.New("the token is empty")
	case len(b) > maxTokenBytes:
		return cred.Secret{}, fmt.Errorf("what is given as a token is longer than %d KiB", maxTokenBytes>>10)
	}
	return cred.SecretString(tok), nil
}

func (c *connection) tokenAudience() string {
	if c.audience != "" {
		return c.audience
	}
	return strings.TrimSuffix(c.broker, "/")
}

// githubToken asks the job's own token service; its URL already carries a query (GitHub's page
// "OpenID Connect reference", and actions/toolkit's oidc-utils).
func githubToken(ctx context.Context, audience string) (cred.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	address := os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") + "&audience=" + url.QueryEscape(audience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return cred.Secret{}, fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL is not a URL: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return cred.Secret{}, fmt.Errorf("the job's token service does not answer: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Value string `json:"value"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxTokenBytes)).Decode(&answer)
	switch refused := fmt.Errorf("the job's token service gave no token (HTTP status %d)", resp.StatusCode); {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return cred.Secret{}, cli.HintedError{Err: refused, Hint: "the job needs 'permissions: id-token: write'"}
	case resp.StatusCode != http.StatusOK || err != nil || answer.Value == "":
		return cred.Secret{}, refused
	}
	return cred.SecretString(answer.Value), nil
}
