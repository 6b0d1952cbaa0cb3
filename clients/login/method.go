package login

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// configurationPath is where a broker tells its clients what they need to know.
const configurationPath = "/.well-known/daypass-configuration"

// DefaultScopes are asked for where nobody says which.
var DefaultScopes = []string{"openid", "offline_access"} //nolint:gochecknoglobals // never changed

// Method is a way to sign in: an OpenID provider, and what daypass is registered as there.
type Method struct {
	Provider string   `json:"provider"` // the broker's name for it; empty where the caller named the issuer
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`

	// ClientSecret is for providers that demand one of installed applications too, where it protects
	// nothing (Google); empty for all others.
	ClientSecret string `json:"client_secret,omitempty"`
}

// Discover asks a broker how its people sign in. The broker must answer for its own URL.
func Discover(ctx context.Context, client *http.Client, broker string) ([]Method, error) {
	broker = strings.TrimSuffix(broker, "/")
	if err := checkEndpoint(broker, broker); err != nil {
		return nil, fault(cred.Invalid, "BROKER_URL", err, "the broker's address %s", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, broker+configurationPath, nil)
	if err != nil {
		return nil, fault(cred.Invalid, "BROKER_URL", err, "the broker's address is not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fault(cred.Unavailable, "", err, "the broker can't be reached to ask where to sign in")
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readConfiguration(resp.Body, broker)
	case http.StatusNotFound:
		return nil, nil // a broker that does not know of signing in
	}
	return nil, fault(cred.Unavailable, "BROKER_ANSWER", nil, "the broker does not say where to sign in (HTTP status %d)", resp.StatusCode)
}

func readConfiguration(body io.Reader, broker string) ([]Method, error) {
	var c struct {
		Issuer string   `json:"issuer"`
		Login  []Method `json:"login"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxBody)).Decode(&c); err != nil {
		return nil, fault(cred.Unavailable, "BROKER_ANSWER", err, "what answers at the broker's address does not speak daypass")
	}
	if strings.TrimSuffix(c.Issuer, "/") != broker {
		return nil, fault(cred.Invalid, "BROKER_URL", nil, "the broker calls itself %q and was asked as %q; use the broker's own URL", c.Issuer, broker)
	}
	return c.Login, nil
}

// Choose returns the method of a provider; without a name, the only one that there is.
func Choose(methods []Method, provider string) (Method, error) {
	var names []string
	for _, m := range methods {
		if m.Provider == provider || provider == "" && len(methods) == 1 {
			return m, nil
		}
		names = append(names, m.Provider)
	}
	switch {
	case len(methods) == 0:
		return Method{}, fault(cred.Invalid, "NO_LOGIN", nil, "this broker has no way for people to sign in; name one with --issuer and --client-id")
	case provider == "":
		return Method{}, fault(cred.Invalid, "WHICH_LOGIN", nil, "this broker's people sign in in several ways; choose one with --provider: %s", strings.Join(names, ", "))
	}
	return Method{}, fault(cred.Invalid, "NO_SUCH_LOGIN", nil, "this broker's people don't sign in with %q; there is %s", provider, strings.Join(names, ", "))
}

// checkEndpoint returns nil if a URL may carry tokens: https, or http on loopback where the issuer
// itself is there.
func checkEndpoint(issuer, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("%q is not a URL with a host", endpoint)
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) && strings.HasPrefix(issuer, "http:") {
		return nil
	}
	return fmt.Errorf("%q must be an https URL; http is for loopback addresses alone", endpoint)
}

func fault(kind cred.Kind, reason string, cause error, format string, args ...any) error {
	return &cred.Error{Kind: kind, Op: "login", Reason: reason, Public: fmt.Sprintf(format, args...), Err: cause}
}
