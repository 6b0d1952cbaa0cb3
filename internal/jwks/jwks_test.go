package jwks_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/jwks"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const setURL = "https://issuer.example.com/keys"

// issuer answers in memory, so that tests run in a synctest bubble.
type issuer struct {
	asked  atomic.Int64
	mu     sync.Mutex
	answer func(*http.Request) (int, string)
	hang   chan struct{} // while set, answers wait for it or for the request's end
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.asked.Add(1)
	i.mu.Lock()
	hang, answer := i.hang, i.answer
	i.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	status, body := answer(r)
	header := make(http.Header)
	if status/100 == 3 {
		header.Set("Location", body)
	}
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func (i *issuer) serve(status int, body string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = func(*http.Request) (int, string) { return status, body }
}

func (i *issuer) setHang(c chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hang = c
}

func newSet(i *issuer, o jwks.Options) *jwks.Set {
	o.Client = &http.Client{Transport: i}
	return jwks.New(setURL, o)
}

func ecKey(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey
}

// doc writes a key set of kid, key pairs.
func doc(t testing.TB, pairs ...any) string {
	t.Helper()
	var set jose.JSONWebKeySet
	for n := 0; n < len(pairs); n += 2 {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: pairs[n].(string), Key: pairs[n+1]})
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantKey(t *testing.T, s *jwks.Set, kid, alg string, want crypto.PublicKey) {
	t.Helper()
	got, err := s.Key(t.Context(), kid, alg)
	if err != nil {
		t.Fatalf("Key(%q, %s): %v", kid, alg, err)
	}
	if !want.(interface{ Equal(crypto.PublicKey) bool }).Equal(got) {
		t.Fatalf("Key(%q, %s) is another key", kid, alg)
	}
}

func wantReason(t *testing.T, s *jwks.Set, kid, alg string, kind cred.Kind, reason string) {
	t.Helper()
	_, err := s.Key(t.Context(), kid, alg)
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason {
		t.Fatalf("Key(%q, %s): %v, want %s %s", kid, alg, err, kind, reason)
	}
}

func wantAsked(t *testing.T, i *issuer, want int64) {
	t.Helper()
	if got := i.asked.Load(); got != want {
		t.Fatalf("the issuer was asked %d times, want %d", got, want)
	}
}

func TestKeyIsFetchedOnceAndCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MaxAge: time.Minute})
		wantAsked(t, i, 0)
		for range 5 {
			wantKey(t, s, "a", "ES256", k)
		}
		wantAsked(t, i, 1)
		time.Sleep(time.Minute)
		wantKey(t, s, "a", "ES256", k)
		wantAsked(t, i, 2)
	})
}

func TestAWithdrawnKeyIsRefusedAfterMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, other := ecKey(t), ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MaxAge: time.Minute})
		wantKey(t, s, "a", "ES256", k)
		i.serve(200, doc(t, "b", other))
		time.Sleep(59 * time.Second)
		wantKey(t, s, "a", "ES256", k)
		time.Sleep(time.Second)
		wantReason(t, s, "a", "ES256", cred.Unauthenticated, "UNKNOWN_KEY")
		wantKey(t, s, "b", "ES256", other)
	})
}

func TestAnUnknownKidIsLookedUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, fresh := ecKey(t), ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MinInterval: 10 * time.Second})
		wantKey(t, s, "a", "ES256", k)
		time.Sleep(10 * time.Second)
		i.serve(200, doc(t, "a", k, "b", fresh))
		wantKey(t, s, "b", "ES256", fresh)
		wantAsked(t, i, 2)
	})
}

func TestAFloodOfUnknownKidsFetchesOncePerMinInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MinInterval: 10 * time.Second, MaxAge: time.Hour})
		for n := range 500 { // over 50 s
			wantReason(t, s, fmt.Sprint("unknown", n), "ES256", cred.Unauthenticated, "UNKNOWN_KEY")
			wantKey(t, s, "a", "ES256", k)
			time.Sleep(100 * time.Millisecond)
		}
		wantAsked(t, i, 5)
	})
}

func TestConcurrentCallersShareOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := &issuer{hang: make(chan struct{})}
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{})
		errs := make(chan error, 100)
		for range cap(errs) {
			go func() {
				_, err := s.Key(t.Context(), "a", "ES256")
				errs <- err
			}()
		}
		synctest.Wait()
		wantAsked(t, i, 1)
		close(i.hang)
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		wantAsked(t, i, 1)
	})
}

func TestAHangingFetchIsNotJoinedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{hang: make(chan struct{})}
		i.serve(200, doc(t))
		s := newSet(i, jwks.Options{Timeout: time.Minute, MinInterval: 10 * time.Second})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
			if _, err := s.Key(ctx, "a", "ES256"); cred.KindOf(err) != cred.Unavailable {
				t.Errorf("error %v, want unavailable", err)
			}
			cancel()
		}
		wantAsked(t, i, 1)
		close(i.hang)
	})
}

func TestACallersDeadlineIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := &issuer{hang: make(chan struct{})}
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{Timeout: time.Minute, MaxAge: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.Key(ctx, "a", "ES256")
		if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error %v, want unavailable because of the deadline", err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Fatalf("the caller waited %s, want 1s", waited)
		}
		close(i.hang) // the flight goes on for the next caller
		wantKey(t, s, "a", "ES256", k)
		wantAsked(t, i, 1)
	})
}

func TestAHangingIssuerDoesNotHoldCachedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MaxAge: time.Minute, MaxStale: 10 * time.Minute, Timeout: 5 * time.Second, MinInterval: 10 * time.Second})
		wantKey(t, s, "a", "ES256", k)
		i.setHang(make(chan struct{}))
		time.Sleep(time.Minute)

		began := time.Now()
		wantKey(t, s, "a", "ES256", k)
		if waited := time.Since(began); waited > 250*time.Millisecond {
			t.Fatalf("the first caller waited %s", waited)
		}
		began = time.Now()
		for range 100 {
			wantKey(t, s, "a", "ES256", k)
		}
		if waited := time.Since(began); waited != 0 {
			t.Fatalf("a hundred later callers waited %s", waited)
		}
		wantAsked(t, i, 2)

		began = time.Now()
		wantReason(t, s, "unknown", "ES256", cred.Unavailable, "KEYS_UNAVAILABLE")
		if waited := time.Since(began); waited > 5*time.Second {
			t.Fatalf("the caller of an unknown key waited %s, longer than the fetch", waited)
		}
	})
}

func TestKeysDieAtMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		s := newSet(i, jwks.Options{MaxAge: time.Minute, MaxStale: 10 * time.Minute})
		wantKey(t, s, "a", "ES256", k)
		i.serve(503, "")
		time.Sleep(10*time.Minute - time.Second)
		wantKey(t, s, "a", "ES256", k)
		time.Sleep(time.Second)
		wantReason(t, s, "a", "ES256", cred.Unavailable, "KEYS_UNAVAILABLE")
		i.serve(200, doc(t, "a", k))
		time.Sleep(10 * time.Second)
		wantKey(t, s, "a", "ES256", k)
	})
}

func TestAFailingIssuerIsAskedOncePerMinInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := new(issuer)
		i.serve(500, "secret detail")
		s := newSet(i, jwks.Options{MinInterval: 10 * time.Second})
		for range 100 { // over 10 s
			wantReason(t, s, "a", "ES256", cred.Unavailable, "KEYS_UNAVAILABLE")
			time.Sleep(100 * time.Millisecond)
		}
		wantAsked(t, i, 1)
		wantReason(t, s, "a", "ES256", cred.Unavailable, "KEYS_UNAVAILABLE")
		wantAsked(t, i, 2)
	})
}

func TestAClockSetBackDoesNotFreezeTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, fresh := ecKey(t), ecKey(t)
		i := new(issuer)
		i.serve(200, doc(t, "a", k))
		now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		s := newSet(i, jwks.Options{Now: func() time.Time { return now }})
		wantKey(t, s, "a", "ES256", k)
		now = now.AddDate(-1, 0, 0)
		i.serve(200, doc(t, "b", fresh))
		wantReason(t, s, "a", "ES256", cred.Unauthenticated, "UNKNOWN_KEY")
		wantKey(t, s, "b", "ES256", fresh)
	})
}

func TestBadAnswersKeepTheOldKeys(t *testing.T) {
	k := ecKey(t)
	bad := map[string]struct {
		status int
		body   string
	}{
		"not found":          {404, doc(t, "b", k)},
		"created":            {201, doc(t, "b", k)},
		"no JSON":            {200, "<html>"},
		"no keys member":     {200, `{}`},
		"Keys for keys":      {200, strings.Replace(doc(t, "b", k), "keys", "Keys", 1)},
		"keys twice":         {200, `{"keys":[],"keys":[]}`},
		"trailing":           {200, doc(t, "b", k) + "{}"},
		"too long":           {200, doc(t, "b", k) + strings.Repeat(" ", 4096)},
		"too many":           {200, `{"keys":[` + strings.Repeat("{},", 128) + `{}]}`},
		"other host":         {302, "https://attacker.example.com/keys"},
		"other port":         {302, "https://issuer.example.com:8443/keys"},
		"without encryption": {307, "http://issuer.example.com/keys"},
		"redirects to self":  {302, setURL},
	}
	for name, answer := range bad {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := new(issuer)
				i.serve(200, doc(t, "a", k))
				s := newSet(i, jwks.Options{MaxBytes: 4096, MaxAge: time.Minute})
				wantKey(t, s, "a", "ES256", k)
				elsewhere := doc(t, "b", k) // which no redirect may lead to
				i.mu.Lock()
				i.answer = func(r *http.Request) (int, string) {
					if r.URL.String() != setURL {
						return 200, elsewhere
					}
					return answer.status, answer.body
				}
				i.mu.Unlock()
				time.Sleep(time.Minute)
				wantKey(t, s, "a", "ES256", k)
				wantReason(t, s, "b", "ES256", cred.Unavailable, "KEYS_UNAVAILABLE")
				if got := i.asked.Load(); got < 2 || got > 5 {
					t.Errorf("the issuer was asked %d times", got)
				}
			})
		})
	}
}

func TestARedirectWithinTheHostIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := ecKey(t)
		body := doc(t, "a", k)
		i := &issuer{answer: func(r *http.Request) (int, string) {
			if r.URL.Path == "/keys" {
				return 302, "/v2/keys"
			}
			return 200, body
		}}
		wantKey(t, newSet(i, jwks.Options{}), "a", "ES256", k)
	})
}

// The set's error may reach a caller: what the issuer sent must not be in it.
func TestPublicTextHidesTheIssuersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := new(issuer)
		i.serve(200, `"internal detail"`)
		_, err := newSet(i, jwks.Options{}).Key(t.Context(), "a", "ES256")
		text := cred.PublicText(err)
		if strings.Contains(text, "detail") || strings.Contains(text, "example.com") || !strings.Contains(text, "try again") {
			t.Errorf("public text %q", text)
		}
	})
}

func TestEd25519(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		i := new(issuer)
		i.serve(200, doc(t, "a", public))
		s := newSet(i, jwks.Options{})
		wantKey(t, s, "a", "EdDSA", public)
		wantReason(t, s, "a", "ES256", cred.Unauthenticated, "UNKNOWN_KEY")
	})
}
