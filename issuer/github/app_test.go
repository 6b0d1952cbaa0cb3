package github

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// counting counts signatures.
type counting struct {
	Signer
	signed atomic.Int64
}

func (c *counting) SignRS256(ctx context.Context, input []byte) ([]byte, error) {
	c.signed.Add(1)
	return c.Signer.SignRS256(ctx, input)
}

// TestClocks: a clock that is somewhat off is made up for at the price of one refused request, one
// that is far off is told to the operator.
func TestClocks(t *testing.T) {
	for _, c := range []struct {
		skew    time.Duration
		refused bool // GitHub refuses the first JWT
		told    bool
	}{
		{0, false, false},
		{55 * time.Second, false, false},
		{-55 * time.Second, false, false},
		{-5 * time.Minute, true, false}, // GitHub is behind: our iat is in its future
		{5 * time.Minute, false, false}, // ours is only old
		{9*time.Minute + 30*time.Second, true, false},
		{-11 * time.Minute, true, true},
		{11 * time.Minute, true, true},
	} {
		t.Run(c.skew.String(), func(t *testing.T) {
			f := newFake(t, "")
			f.skew = c.skew
			cfg := config(t, f.url)
			signer := &counting{Signer: cfg.Signer}
			cfg.Signer = signer
			i := open(t, cfg)
			_, _, err := issue(t, i, nil)
			if c.told {
				wantRefusal(t, f, err, cred.Unavailable, "")
				if !strings.Contains(cred.PublicText(err), "clock") {
					t.Errorf("the public text does not tell of the clock: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := int64(1)
			if c.refused {
				want = 2
			}
			if n := signer.signed.Load(); n != want {
				t.Errorf("%d JWTs were signed, want %d", n, want)
			}
			if _, _, err := issue(t, i, nil); err != nil || signer.signed.Load() != want {
				t.Errorf("the second token: %v, %d JWTs", err, signer.signed.Load())
			}
		})
	}
}

// TestJWT looks at the claims and at how long a JWT is used.
func TestJWT(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	a := &appTokens{app: "Iv23client", signer: keyFile(t, testKey()), now: func() time.Time { return now }}
	first, err := a.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	tok, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(first.RevealString(), &claims, func(*jwt.Token) (any, error) { return &testKey().PublicKey, nil })
	if err != nil {
		t.Fatal(err)
	}
	if tok.Header["alg"] != "RS256" || tok.Header["typ"] != "JWT" || len(tok.Header) != 2 {
		t.Errorf("header %v", tok.Header)
	}
	if claims["iss"] != "Iv23client" || claims["iat"] != float64(now.Unix()-60) || claims["exp"] != float64(now.Unix()+9*60) || len(claims) != 3 {
		t.Errorf("claims %v", claims)
	}
	for after, same := range map[time.Duration]bool{jwtReuse - time.Second: true, jwtReuse: false, -time.Second: false} {
		now = now.Add(after)
		if again, err := a.current(t.Context()); err != nil || again.IsZero() || (again == first) != same {
			t.Errorf("%v later: the same %v, %v", after, again == first, err)
		}
		now = now.Add(-after)
		a.token, a.signedAt = first, now
	}
}

// TestKeyReplaced: a key file that was replaced is used as soon as GitHub refuses the old key.
func TestKeyReplaced(t *testing.T) {
	f := newFake(t, "")
	cfg := config(t, f.url)
	file := keyFile(t, testKey())
	cfg.Signer = file
	i := open(t, cfg)
	if _, _, err := issue(t, i, nil); err != nil {
		t.Fatal(err)
	}
	next := newKey(2048)
	writePEM(t, file.Path, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(next)})
	if _, _, err := issue(t, i, nil); err != nil {
		t.Errorf("while GitHub knows both keys: %v", err)
	}
	f.set(func() { f.key = &next.PublicKey })
	if _, _, err := issue(t, i, nil); err != nil {
		t.Errorf("when GitHub knows the new key alone: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	pkcs1 := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testKey())}
	pkcs8 := func(key any) *pem.Block {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		blocks []*pem.Block
		works  bool
	}{
		"PKCS #1":     {[]*pem.Block{pkcs1}, true},
		"PKCS #8":     {[]*pem.Block{pkcs8(testKey())}, true},
		"two keys":    {[]*pem.Block{pkcs1, pkcs1}, false},
		"no RSA":      {[]*pem.Block{pkcs8(ec)}, false},
		"1024 bits":   {[]*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(newKey(1024))}}, false},
		"a public":    {[]*pem.Block{{Type: "PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&testKey().PublicKey)}}, false},
		"damaged":     {[]*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: pkcs1.Bytes[:100]}}, false},
		"no PEM file": {nil, false},
	} {
		f := KeyFile{filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))}
		writePEM(t, f.Path, c.blocks...)
		signature, err := f.SignRS256(t.Context(), []byte("a.b"))
		digest := sha256.Sum256([]byte("a.b"))
		works := err == nil && rsa.VerifyPKCS1v15(&testKey().PublicKey, 5, digest[:], signature) == nil
		if works != c.works || (f.Check() == nil) != c.works || err != nil && cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: works %v, Sign: %v, Check: %v", name, works, err, f.Check())
		}
	}
	f := keyFile(t, testKey())
	if err := os.Chmod(f.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); !strings.Contains(cred.PublicText(err), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}

// TestKeyUnreadable: without its key the app makes nothing, and the error tells nobody outside where
// the key lies.
func TestKeyUnreadable(t *testing.T) {
	f := newFake(t, "")
	cfg := config(t, f.url)
	cfg.Signer = KeyFile{"/does/not/exist.pem"}
	_, _, err := issue(t, open(t, cfg), nil)
	wantRefusal(t, f, err, cred.Unavailable, "")
	if strings.Contains(cred.PublicText(err), "exist.pem") || len(f.requests) != 0 {
		t.Errorf("%q after %d requests", cred.PublicText(err), len(f.requests))
	}
}

// limiting has the fake limit the next n requests of a method.
func limiting(f *fake, method string, n int64, status int, headers map[string]string) {
	var seen atomic.Int64
	f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || seen.Add(1) > n {
			return false
		}
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		problemAnswer(w, status, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
		return true
	}
}

// TestShortLimit is waited for where the caller has the time.
func TestShortLimit(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		f, i := world(t)
		limiting(f, method, 1, 429, map[string]string{"Retry-After": "1"})
		if _, _, err := issue(t, i, nil); err != nil || f.made != 1 {
			t.Errorf("%s: %v, %d tokens", method, err, f.made)
		}
	}
}

// TestLongLimit is told to the caller at once.
func TestLongLimit(t *testing.T) {
	reset := strconv.FormatInt(time.Now().Add(20*time.Minute).Unix(), 10)
	for name, c := range map[string]struct {
		method  string
		status  int
		headers map[string]string
		wait    time.Duration
	}{
		"secondary, look-up":   {"GET", 403, map[string]string{"Retry-After": "60"}, time.Minute},
		"secondary, making":    {"POST", 403, map[string]string{"Retry-After": "120"}, 2 * time.Minute},
		"429":                  {"POST", 429, nil, time.Minute},
		"primary, reset":       {"POST", 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, 20 * time.Minute},
		"a wait without sense": {"POST", 429, map[string]string{"Retry-After": "99999999999999999999"}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			f, i := world(t)
			limiting(f, c.method, 99, c.status, c.headers)
			began := time.Now()
			_, _, err := issue(t, i, nil)
			wantRefusal(t, f, err, cred.Unavailable, "SOURCE_LIMITS")
			after, _ := cred.RetryAfter(err)
			if (after-c.wait).Abs() > 5*time.Second || time.Since(began) > 5*time.Second || f.count(c.method) != 1 {
				t.Errorf("wait %v, want %v; took %v and %d requests", after, c.wait, time.Since(began), f.count(c.method))
			}
		})
	}
}

// TestLimitLasts: three tries are enough.
func TestLimitLasts(t *testing.T) {
	f, i := world(t)
	limiting(f, "POST", 99, 403, map[string]string{"Retry-After": "0"})
	_, _, err := issue(t, i, nil)
	wantRefusal(t, f, err, cred.Unavailable, "SOURCE_LIMITS")
	if n := f.count("POST"); n != tries {
		t.Errorf("%d requests, want %d", n, tries)
	}
}

func TestLimitOf(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for n := 0; n < len(pairs); n += 2 {
			h.Set(pairs[n], pairs[n+1])
		}
		return h
	}
	const about = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"
	unix := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	for name, c := range map[string]struct {
		status int
		header http.Header
		url    string
		want   time.Duration
	}{
		"suspended":                  {403, header("X-RateLimit-Remaining", "4999"), "https://docs.github.com/rest", 0},
		"remaining in a good answer": {200, header("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", unix(time.Minute)), "", 0},
		"404 with Retry-After":       {404, header("Retry-After", "5"), "", 0},
		"Retry-After before reset":   {403, header("Retry-After", "3", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", unix(time.Hour)), "", 3 * time.Second},
		"reset":                      {403, header("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", unix(90*time.Second)), "", 90 * time.Second},
		"told by the documentation":  {403, header(), about, time.Minute},
		"429 and nothing else":       {429, header(), "", time.Minute},
	} {
		if got := limitOf(tokenapi.Answer{Status: c.status, Header: c.header, Asked: now}, c.url); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
