package peers

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// VaultServer is a Vault in development mode (in memory, unsealed) that belongs to one test.
type VaultServer struct {
	URL       string
	RootToken string
	Client    *api.Client // as root

	t testing.TB
}

// Vault starts a Vault and waits until it is active. Where there is no Vault it builds one first,
// which takes minutes; e2e/prepare does that ahead of time.
func Vault(t testing.TB) *VaultServer {
	t.Helper()
	skipIfShort(t)
	bin, err := prepare("vault")
	if err != nil {
		unavailable(t, "no Vault: %v", err)
	}
	v := &VaultServer{URL: "http://" + freeAddr(t), RootToken: "root-" + rand.Text(), t: t}
	cmd := v.command(bin, t.TempDir())
	p, err := start(t, cmd, syscall.SIGTERM)
	if err != nil {
		unavailable(t, "Vault does not start: %v", err)
	}
	v.Client = v.As(v.RootToken)
	if err := p.await(t.Context(), v.active); err != nil {
		unavailable(t, "Vault: %v", err)
	}
	return v
}

// command is the development server. HOME is temporary, so that nothing of the machine's user is read.
func (v *VaultServer) command(bin, home string) *exec.Cmd {
	args := []string{
		"server", "-dev", "-dev-no-store-token", "-dev-root-token-id=" + v.RootToken,
		"-dev-listen-address=" + v.URL[len("http://"):], "-log-level=warn",
	}
	plugins := filepath.Join(filepath.Dir(bin), "plugins")
	if _, err := os.Stat(plugins); err == nil {
		args = append(args, "-dev-plugin-dir="+plugins)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home}
	cmd.Dir = home
	return cmd
}

// active reports whether the root token works: the health check says yes a little earlier.
func (v *VaultServer) active(ctx context.Context) error {
	health, err := v.Client.Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	if !health.Initialized || health.Sealed {
		return errors.New("not active")
	}
	_, err = v.Client.Auth().Token().LookupSelfWithContext(ctx)
	return err
}

// As returns a client that holds a token. It retries nothing.
func (v *VaultServer) As(token string) *api.Client {
	v.t.Helper()
	client, err := api.NewClient(&api.Config{Address: v.URL, HttpClient: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		v.t.Fatal(err)
	}
	client.SetToken(token)
	client.ClearNamespace()
	return client
}
