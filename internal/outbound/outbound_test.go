package outbound_test

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/internal/outbound"
)

func TestClientTrustsItsFileAndStays(t *testing.T) {
	server := httptest.NewTLSServer(http.RedirectHandler("https://elsewhere.example.com/", http.StatusTemporaryRedirect))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := outbound.Client(file)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("it went on to the redirect's end: %s", resp.Status)
	}
	stranger, err := outbound.Client("")
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := stranger.Get(server.URL); err == nil {
		resp.Body.Close()
		t.Error("a client without the file trusts the server")
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, file + ".none"} {
		if _, err := outbound.Client(bad); err == nil {
			t.Errorf("%s was taken for certificates", bad)
		}
	}
}

func TestUsable(t *testing.T) {
	for base, want := range map[string]struct{ always, plain bool }{
		"https://api.example.com":       {true, true},
		"https://api.example.com/v3":    {true, true},
		"http://127.0.0.1:8080":         {false, true},
		"http://[::1]:8080/v3":          {false, true},
		"http://localhost":              {false, true},
		"http://api.example.com":        {},
		"http://127.0.0.1.example.com":  {},
		"https://u:p@api.example.com":   {},
		"https://api.example.com/?x=1":  {},
		"https://api.example.com/?":     {},
		"https://api.example.com/#here": {},
		"ftp://127.0.0.1":               {},
		"api.example.com":               {},
		"https://":                      {},
		"":                              {},
	} {
		if got := outbound.Usable(base, false); got != want.always {
			t.Errorf("%s: usable is %v", base, got)
		}
		if got := outbound.Usable(base, true); got != want.plain {
			t.Errorf("%s, with plain text: usable is %v", base, got)
		}
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if !outbound.Pause(ctx, time.Second) || time.Since(began) != time.Second {
			t.Errorf("waited %s", time.Since(began))
		}
		if outbound.Pause(ctx, 9*time.Second) || time.Since(began) != time.Second {
			t.Error("began to wait for longer than there is time")
		}
		if outbound.Pause(t.Context(), 30*time.Second) {
			t.Error("waited for a caller who named no end")
		}
		cancel()
		if outbound.Pause(ctx, time.Millisecond) {
			t.Error("waited for a caller who has left")
		}
	})
}
