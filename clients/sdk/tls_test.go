package sdk_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// A broker that speaks TLS 1.2 at the most is never sent a token, nor is one whose certificate does
// not verify.
func TestTLS(t *testing.T) {
	reached := make(chan string, 10)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.Header.Get("Authorization") })
	old, other := httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	for _, s := range []*httptest.Server{old, other} {
		s.EnableHTTP2 = true
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are what this is about
		s.StartTLS()
		defer s.Close()
	}
	roots := x509.NewCertPool()
	roots.AddCert(old.Certificate())
	mine := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10}
	call := func(url string, config *tls.Config) error {
		c, err := sdk.Dial(url, sdk.StaticToken(cred.SecretString("t")), config)
		must(t, err)
		defer c.Close()
		_, err = c.WhoAmI(t.Context())
		return err
	}
	wantKind(t, call(old.URL, mine), cred.Unavailable)
	wantKind(t, call(other.URL, nil), cred.Unavailable)
	if mine.MinVersion != tls.VersionTLS10 {
		t.Error("the caller's configuration was changed")
	}
	if len(reached) != 0 {
		t.Fatalf("reached with %q", <-reached)
	}
	if err := call(other.URL, mine); err == nil || len(reached) != 1 {
		t.Errorf("TLS 1.3 does not get through, so this test proves nothing: %v", err)
	}
}
