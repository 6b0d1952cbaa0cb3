package oauth_test

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/oauth"
)

// canned answers token requests with one text, and revocations with 200.
type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/revoke") {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	}
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
}

func signs(token string) oauth.Signer {
	return func(context.Context, string, issuer.Spec) (cred.Secret, error) { return cred.SecretString(token), nil }
}
