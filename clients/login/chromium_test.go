package login_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/clients/login/logintest"
)

// TestChromiumSignsIn goes the whole way with a real browser: the provider's page has a script that goes
// on, and the last page is what the person is shown.
func TestChromiumSignsIn(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no browser")
	}
	bin, err := exec.LookPath("chromium")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("there is no chromium; e2e/prepare installs it")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "login: SKIPPED %s: there is no chromium; e2e/prepare installs it\n", t.Name())
		t.Skip("no chromium")
	}
	p := newProvider(t)
	p.Set(func(b *logintest.Behaviour) { b.Page, b.SaysIssuer = true, true })
	shown := make(chan string, 1)
	f := flow(p, newBrowser(t))
	f.Open = func(ctx context.Context, address string) error {
		go func() { shown <- chromium(ctx, bin, address) }()
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := f.Browser(ctx)
	if err != nil || s.Subject != "ann" {
		t.Errorf("session %+v (%v)", s, err)
	}
	if page := <-shown; !strings.Contains(page, "Signed in") || !strings.Contains(page, "You may close this window") {
		t.Errorf("the browser shows\n%s", page)
	}
}

// chromium returns the page that a headless browser ends on.
func chromium(ctx context.Context, bin, address string) string {
	home, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(home) // its helpers may still write, so nothing hangs on it
	cmd := exec.CommandContext(ctx, bin,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--user-data-dir="+home,
		"--timeout=20000", "--virtual-time-budget=5000", "--dump-dom", address)
	cmd.Env = append(os.Environ(), "HOME="+home)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("chromium: %v", err)
	}
	return string(out)
}
