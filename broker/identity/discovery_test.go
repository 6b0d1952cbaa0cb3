package identity_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test whose clock is synctest's, with an issuer on the same clock.
func bubble(t *testing.T, test func(t *testing.T, i *identitytest.Issuer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		i, err := identitytest.Unserved("https://issuer.example.com")
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		test(t, i)
	})
}

func accepted(t *testing.T, v *identity.Verifier, i *identitytest.Issuer) {
	t.Helper()
	if _, err := v.Verify(t.Context(), i.Sign(i.PersonClaims(audience, "a"))); err != nil {
		t.Helper()
		t.Fatalf("a good token: %v", err)
	}
}

func unavailableNow(t *testing.T, v *identity.Verifier, i *identitytest.Issuer) {
	t.Helper()
	token := i.Sign(i.PersonClaims(audience, "a"))
	_, err := v.Verify(t.Context(), token)
	refused(t, err, token, cred.Unavailable, "ISSUER_UNAVAILABLE")
}

func TestIssuerMayBeDownAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		i.SetDown(true)
		v := newVerifier(t, time.Now, provider(i))
		if n := i.Discoveries(); n != 0 {
			t.Fatalf("New made %d requests", n)
		}
		for range 50 {
			unavailableNow(t, v, i)
		}
		if n := i.Discoveries(); n != 1 {
			t.Errorf("50 tokens within an instant made %d discoveries, want 1", n)
		}
		i.SetDown(false)
		unavailableNow(t, v, i) // the retry is a second away
		time.Sleep(time.Second)
		accepted(t, v, i)
	})
}

func TestRetriesBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		i.SetDown(true)
		v := newVerifier(t, time.Now, provider(i))
		for range 300 {
			unavailableNow(t, v, i)
			time.Sleep(time.Second)
		}
		// At 0, 1, 3, 7, 15, 31 s, then each 30 s up to 300 s.
		if n := i.Discoveries(); n != 14 {
			t.Errorf("300 s of a down issuer made %d discoveries, want 14", n)
		}
	})
}

func TestHangingDiscoveryEnds(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		i.SetHang(true)
		v := newVerifier(t, time.Now, provider(i))
		token := i.Sign(i.PersonClaims(audience, "a"))
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := v.Verify(ctx, token)
		refused(t, err, token, cred.Unavailable, "ISSUER_UNAVAILABLE")
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("a caller with a deadline of 100 ms waited %s", took)
		}
		unavailableNow(t, v, i)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("a caller without a deadline waited until %s, want until the fetch's end at 5 s", took)
		}
		if n := i.Discoveries(); n != 1 {
			t.Errorf("the two made %d discoveries, want 1 for both", n)
		}
	})
}

// TestOneFlight starts many callers at once, one of whom leaves: the others must not be hurt.
func TestOneFlight(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		i.SetHang(true)
		v := newVerifier(t, time.Now, provider(i))
		token := i.Sign(i.PersonClaims(audience, "a"))
		leaving, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := v.Verify(leaving, token)
			refused(t, err, token, cred.Unavailable)
		})
		synctest.Wait()
		for range 100 {
			callers.Go(func() {
				if _, err := v.Verify(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		i.SetHang(false)
		callers.Wait()
		if d, f := i.Discoveries(), i.Fetches(); d != 1 || f != 1 {
			t.Errorf("%d discoveries and %d fetches, want one of each", d, f)
		}
	})
}

func TestUnknownIssuerIsNeverAsked(t *testing.T) {
	stranger, err := identitytest.New()
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	p := provider(unserved(t))
	p.Client, p.AllowPlain = nil, true // so that the stranger could be reached
	v := newVerifier(t, time.Now, p)
	token := stranger.Sign(stranger.PersonClaims(audience, "a"))
	_, err = v.Verify(t.Context(), token)
	refused(t, err, token, cred.Unauthenticated, "UNKNOWN_ISSUER")
	if n := stranger.Discoveries() + stranger.Fetches(); n != 0 {
		t.Errorf("an unknown issuer was asked %d times", n)
	}
}

func TestDiscoveryThatIsNotBelieved(t *testing.T) {
	for name, say := range map[string][2]string{
		"another issuer":         {"https://other.example.com", "https://issuer.example.com/jwks"},
		"a slash more":           {"https://issuer.example.com/", "https://issuer.example.com/jwks"},
		"keys over plain HTTP":   {"https://issuer.example.com", "http://issuer.example.com/jwks"},
		"keys on plain loopback": {"https://issuer.example.com", "http://127.0.0.1/jwks"},
		"no keys":                {"https://issuer.example.com", ""},
		"keys in a file":         {"https://issuer.example.com", "file:///jwks"},
		"keys without a host":    {"https://issuer.example.com", "https:///jwks"},
		"keys with a password":   {"https://issuer.example.com", "https://a:b@issuer.example.com/jwks"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, i *identitytest.Issuer) {
				i.SetDiscovery(say[0], say[1])
				v := newVerifier(t, time.Now, provider(i))
				unavailableNow(t, v, i)
				if n := i.Fetches(); n != 0 {
					t.Errorf("the keys were fetched %d times all the same", n)
				}
				i.SetDiscovery(i.URL(), i.URL()+"/jwks")
				time.Sleep(time.Second)
				accepted(t, v, i)
			})
		})
	}
}

func TestKeyRotation(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		v := newVerifier(t, time.Now, provider(i))
		old := i.Sign(i.PersonClaims(audience, "a"))
		accepted(t, v, i)
		if err := i.Rotate(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the least time between two fetches
		accepted(t, v, i)
		if _, err := v.Verify(t.Context(), old); err != nil {
			t.Errorf("the key before is still published: %v", err)
		}
		i.Retire()
		time.Sleep(11 * time.Minute) // the age at which keys are fetched anew
		_, err := v.Verify(t.Context(), old)
		refused(t, err, old, cred.Unauthenticated, "SIGNATURE_INVALID")
	})
}

func TestDocumentIsFetchedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		v := newVerifier(t, time.Now, provider(i))
		accepted(t, v, i)
		time.Sleep(59 * time.Minute)
		accepted(t, v, i)
		if n := i.Discoveries(); n != 1 {
			t.Fatalf("%d discoveries within an hour, want 1", n)
		}
		again := func(wantDiscoveries, wantFetches int) {
			accepted(t, v, i) // with the old document, while the new one is fetched
			synctest.Wait()
			before := i.Fetches()
			accepted(t, v, i)
			if d, f := i.Discoveries(), i.Fetches()-before; d != wantDiscoveries || f != wantFetches {
				t.Errorf("%d discoveries and then %d fetches, want %d and %d", d, f, wantDiscoveries, wantFetches)
			}
		}
		time.Sleep(2 * time.Minute)
		again(2, 0) // the keys that were cached stay
		i.SetDiscovery(i.URL(), i.URL()+"/moved/jwks")
		time.Sleep(61 * time.Minute)
		again(3, 1)
	})
}

// TestOldDocumentEnds lets an issuer answer for its keys, but no more for where they are.
func TestOldDocumentEnds(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		v := newVerifier(t, time.Now, provider(i))
		accepted(t, v, i)
		i.SetDiscovery("https://other.example.com", i.URL()+"/jwks")
		time.Sleep(23 * time.Hour)
		accepted(t, v, i)
		time.Sleep(time.Hour)
		unavailableNow(t, v, i)
	})
}

// TestHangingKeysHoldNobody is the case that go-oidc's own key set fails: it held callers for 30 s.
func TestHangingKeysHoldNobody(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		v := newVerifier(t, time.Now, provider(i))
		accepted(t, v, i)
		i.SetHang(true)
		time.Sleep(time.Minute)
		unknown := i.Sign(i.PersonClaims(audience, "a"), identitytest.WithHeader("kid", "unknown"))
		var flood sync.WaitGroup
		flood.Go(func() {
			_, err := v.Verify(t.Context(), unknown)
			refused(t, err, unknown, cred.Unavailable)
		})
		synctest.Wait()
		start := time.Now()
		accepted(t, v, i)
		if took := time.Since(start); took != 0 {
			t.Errorf("a caller whose key is cached waited %s", took)
		}
		flood.Wait()
	})
}

func TestFloodOfUnknownKeys(t *testing.T) {
	bubble(t, func(t *testing.T, i *identitytest.Issuer) {
		v := newVerifier(t, time.Now, provider(i))
		accepted(t, v, i)
		before := i.Fetches()
		time.Sleep(time.Minute)
		for n := range 500 {
			token := i.Sign(i.PersonClaims(audience, "a"), identitytest.WithHeader("kid", fmt.Sprint("unknown-", n)))
			_, err := v.Verify(t.Context(), token)
			refused(t, err, token, cred.Unauthenticated, "SIGNATURE_INVALID")
		}
		if n := i.Fetches() - before; n != 1 {
			t.Errorf("500 unknown kids made %d fetches, want 1", n)
		}
	})
}

func TestOverTheNetwork(t *testing.T) {
	i, err := identitytest.New()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	transport := &http.Transport{DisableKeepAlives: true}
	p := identity.Provider{Name: "example", Issuer: i.URL(), Audiences: []string{audience}, AllowPlain: true, Client: &http.Client{Transport: transport}}
	accepted(t, newVerifier(t, time.Now, p), i)
	if d, f := i.Discoveries(), i.Fetches(); d != 1 || f != 1 {
		t.Errorf("%d discoveries and %d fetches, want one of each", d, f)
	}
}

// TestHostileAnswers lets the discovery document redirect, and never end.
func TestHostileAnswers(t *testing.T) {
	i := unserved(t)
	var sent atomic.Int64
	for name, handler := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/moved/") || r.URL.Path == "/jwks" {
				i.ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, "/moved"+r.URL.Path, http.StatusFound)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				n, err := w.Write(make([]byte, 64<<10))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>sign in</html>") },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			i.SetDiscovery(server.URL, server.URL+"/jwks")
			p := identity.Provider{Name: "example", Issuer: server.URL, Audiences: []string{audience}, AllowPlain: true, Client: server.Client()}
			claims := i.PersonClaims(audience, "a")
			claims["iss"] = server.URL
			token := i.Sign(claims)
			_, err := newVerifier(t, atNoon, p).Verify(t.Context(), token)
			refused(t, err, token, cred.Unavailable, "ISSUER_UNAVAILABLE")
		})
	}
	if n := sent.Load(); n > 32<<20 { // what is read, and what the buffers in between hold
		t.Errorf("an endless document was read on, to %d bytes", n)
	}
}
