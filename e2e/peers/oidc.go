package peers

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
)

// OIDCServer is an OpenID provider that is not ours and belongs to one test: see e2e/oidc for who it is,
// for its one client and its people.
type OIDCServer struct {
	URL      string
	ClientID string
	User     string
	Password string
}

// OIDC starts the provider and waits until it answers. Where it is not built it is built first, which
// takes a minute; e2e/prepare does that ahead of time.
func OIDC(t testing.TB) *OIDCServer {
	t.Helper()
	skipIfShort(t)
	bin, err := prepare("oidc")
	if err != nil {
		unavailable(t, "no OpenID provider: %v", err)
	}
	address := freeAddr(t)
	o := &OIDCServer{URL: "http://" + address, ClientID: "daypass-cli", User: "test-user2", Password: "verysecure"}
	p, err := start(t, exec.Command(bin, address), syscall.SIGTERM)
	if err != nil {
		unavailable(t, "the OpenID provider does not start: %v", err)
	}
	if err := p.await(t.Context(), o.ready); err != nil {
		unavailable(t, "the OpenID provider: %v", err)
	}
	return o
}

func (o *OIDCServer) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL+"/.well-known/openid-configuration", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
