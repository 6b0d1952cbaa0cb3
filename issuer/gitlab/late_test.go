package gitlab

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// slowly stands before the fake and holds back what makes a token, as a busy GitLab does: it goes on
// although whoever asked has left.
func (f *fake) slowly(t *testing.T) (at string, asked <-chan struct{}, goOn chan<- struct{}) {
	came, held := make(chan struct{}, 1), make(chan struct{})
	to, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			came <- struct{}{}
			<-held
			stays, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
			defer cancel()
			r = r.WithContext(stays)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return srv.URL, came, held
}

// TestLateTokenIsEnded holds that a token which GitLab makes after its caller has left does not live on: it
// is ended when it comes, and a revocation by the reservation does not say before that there is none.
func TestLateTokenIsEnded(t *testing.T) {
	f := newFake(t)
	at, asked, goOn := f.slowly(t)
	i := f.open(t, at)
	s := spec(time.Now().Add(time.Hour))
	reserved, err := i.Reserve(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	issued := make(chan error, 1)
	go func() {
		_, _, err := i.Issue(ctx, s)
		issued <- err
	}()
	<-asked
	leave()
	if err := <-issued; cred.KindOf(err) != cred.Unavailable {
		t.Fatal(err)
	}
	early, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := i.Revoke(early, cred.Lease{Handle: reserved}); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("while GitLab is at it a revocation says %v", err)
	}
	close(goOn)
	if err := i.Revoke(t.Context(), cred.Lease{Handle: reserved}); err != nil {
		t.Error(err)
	}
	if n := f.living(); n != 0 {
		t.Errorf("%d tokens live that nobody has", n)
	}
}

// TestCloseEndsLateTokens holds that Close waits for what is under way.
func TestCloseEndsLateTokens(t *testing.T) {
	f := newFake(t)
	at, asked, goOn := f.slowly(t)
	i := f.open(t, at)
	ctx, leave := context.WithCancel(t.Context())
	issued := make(chan error, 1)
	go func() {
		_, _, err := i.Issue(ctx, spec(time.Now().Add(time.Hour)))
		issued <- err
	}()
	<-asked
	leave()
	<-issued
	close(goOn)
	_ = i.Close()
	if n := f.living(); n != 0 {
		t.Errorf("%d tokens live that nobody has", n)
	}
	if _, _, err := i.Issue(t.Context(), spec(time.Now().Add(time.Hour))); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("a closed issuer says %v", err)
	}
}
