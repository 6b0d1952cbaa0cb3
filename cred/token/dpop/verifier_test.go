package dpop_test

import (
	"encoding/base64"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

func decode(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 9449, sections 4.2, 6.1 and 7.1.
func TestTheStandardsExample(t *testing.T) {
	const header = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik" +
		"VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR" +
		"nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE" +
		"QSIsImNydiI6IlAtMjU2In19"
	const claims = "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIj" +
		"oiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia" +
		"WF0IjoxNTYyMjYyNjE2fQ"
	const signature = "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg" +
		"4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	got, err := dpop.Parse(header + "." + claims + "." + signature)
	if err != nil {
		t.Fatal(err)
	}
	want := dpop.Proof{
		Thumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", ID: "-BwC3ESc6acc2lTc",
		Method: "POST", URL: "https://server.example.com/token", IssuedAt: time.Unix(1562262616, 0).UTC(),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(dpop.Proof{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := dpop.TokenHash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"); got != "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo" {
		t.Errorf("ath %s", got)
	}
}

func TestAProofIsTakenOnce(t *testing.T) {
	f := newForger(t)
	v, w := verifier(dpop.Options{}), want(f.thumbprint())
	proof := f.good()
	if _, err := v.Verify(proof, w); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(proof, w)
	wantRefused(t, "the same bytes", err, dpop.ReasonReplayed, "used before")
	_, err = v.Verify(malleated(t, proof), w)
	wantRefused(t, "its other signature", err, dpop.ReasonReplayed, "used before")

	named := f.withClaim("jti", "a name")
	if _, err := v.Verify(named, w); err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(f.with(func(_, c map[string]any) { c["jti"], c["iat"] = "a name", now.Unix()+1 }), w)
	wantRefused(t, "its jti again", err, dpop.ReasonReplayed, "used before")
	other := newForger(t)
	if _, err := v.Verify(other.withClaim("jti", "a name"), want(other.thumbprint())); err != nil {
		t.Errorf("another key's jti: %v", err)
	}
}

// malleated returns the proof with the other signature that the same key gives: (r, n-s) for (r, s).
func malleated(t *testing.T, proof string) string {
	t.Helper()
	parts := strings.Split(proof, ".")
	signature := decode(t, parts[2])
	order, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	s := new(big.Int).SetBytes(signature[32:])
	order.Sub(order, s).FillBytes(signature[32:])
	return parts[0] + "." + parts[1] + "." + b64(signature)
}

// A refused proof is not used up: whoever sends it to the wrong place first can't spoil it.
func TestARefusedProofIsNotUsedUp(t *testing.T) {
	f := newForger(t)
	v, w := verifier(dpop.Options{}), want(f.thumbprint())
	proof := f.good()
	wrong := w
	wrong.Method = "POST"
	_, err := v.Verify(proof, wrong)
	wantRefused(t, "the wrong method", err, dpop.ReasonInvalid, "another method")
	if _, err := v.Verify(proof, w); err != nil {
		t.Error(err)
	}
}

func TestReplaysAtTheSameTime(t *testing.T) {
	f := newForger(t)
	v, w := verifier(dpop.Options{}), want(f.thumbprint())
	for range 20 {
		proof := f.good()
		var taken, replayed atomic.Int32
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 16 {
			all.Go(func() {
				<-start
				_, err := v.Verify(proof, w)
				if e, ok := errors.AsType[*cred.Error](err); ok && e.Reason == dpop.ReasonReplayed {
					replayed.Add(1)
				} else if err == nil {
					taken.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if taken.Load() != 1 || replayed.Load() != 15 {
			t.Fatalf("taken %d times, refused as a replay %d times; want 1 and 15", taken.Load(), replayed.Load())
		}
	}
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := dpop.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		w := want(k.Thumbprint())
		v := dpop.New(dpop.Options{MaxProofs: 1})
		time.Sleep(time.Second)
		early, late := sign(t, k, "", time.Now()), sign(t, k, "", time.Now())
		if _, err := v.Verify(early, w); err != nil {
			t.Fatal(err)
		}
		// It is remembered as long as it would be taken, and not a moment less.
		time.Sleep(65 * time.Second)
		_, err = v.Verify(early, w)
		wantRefused(t, "at its last instant", err, dpop.ReasonReplayed, "used before")
		_, err = v.Verify(late, w)
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Reason != dpop.ReasonCrowded {
			t.Errorf("a second one while the first is remembered: %v", err)
		}
		time.Sleep(time.Second)
		_, err = v.Verify(late, w)
		wantRefused(t, "after it", err, dpop.ReasonInvalid, "too old")
		if _, err := v.Verify(sign(t, k, "", time.Now()), w); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

func TestLastInstantOfAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := dpop.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		v := dpop.New(dpop.Options{MaxAge: 10 * time.Second, Skew: -1})
		proof := sign(t, k, "", time.Now())
		time.Sleep(10 * time.Second)
		if _, err := v.Verify(proof, want("")); err != nil {
			t.Error(err)
		}
		other := sign(t, k, "", time.Now().Add(-10*time.Second))
		time.Sleep(time.Nanosecond)
		_, err = v.Verify(other, want(""))
		wantRefused(t, "a nanosecond later", err, dpop.ReasonInvalid, "too old")
	})
}

// A clock that is set back does not bring forgotten proofs back.
func TestAClockThatIsSetBack(t *testing.T) {
	k, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	var clock atomic.Int64
	v := dpop.New(dpop.Options{Now: func() time.Time { return now.Add(time.Duration(clock.Load())) }})
	used, unused := sign(t, k, "", now), sign(t, k, "", now)
	if _, err := v.Verify(used, want("")); err != nil {
		t.Fatal(err)
	}
	clock.Store(int64(time.Hour))
	if _, err := v.Verify(sign(t, k, "", now.Add(time.Hour)), want("")); err != nil {
		t.Fatal(err)
	}
	clock.Store(0)
	for name, proof := range map[string]string{"used": used, "unused": unused} {
		_, err := v.Verify(proof, want(""))
		wantRefused(t, name, err, dpop.ReasonInvalid, "too old")
	}
	if _, err := v.Verify(sign(t, k, "", now.Add(time.Second)), want("")); err != nil {
		t.Errorf("a proof of a second that was never forgotten: %v", err)
	}
}

func TestAFullMemoryRefuses(t *testing.T) {
	f := newForger(t)
	v, w := verifier(dpop.Options{MaxProofs: 100}), want(f.thumbprint())
	first := f.good()
	for i := range 100 {
		proof := f.good()
		if i == 0 {
			proof = first
		}
		if _, err := v.Verify(proof, w); err != nil {
			t.Fatal(err)
		}
	}
	proof := f.good()
	for range 2 {
		_, err := v.Verify(proof, w)
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Reason != dpop.ReasonCrowded {
			t.Errorf("with a full memory: %v", err)
		}
	}
	_, err := v.Verify(first, w)
	wantRefused(t, "the first one", err, dpop.ReasonReplayed, "used before")
}

func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := dpop.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		nonces := dpop.NewNonces(time.Now, 30*time.Second)
		v := dpop.New(dpop.Options{Nonces: nonces})
		if v.Nonce() != nonces.Current() || len(v.Nonce()) < 20 {
			t.Errorf("the nonce to send is %q", v.Nonce())
		}
		first := v.Nonce()
		for name, nonce := range map[string]string{
			"none": "", "a made-up one": "nonce", "another process's": dpop.NewNonces(time.Now, 30*time.Second).Current(),
			"one with more": first + "A", "one with less": first[:20],
		} {
			_, err := v.Verify(sign(t, k, nonce, time.Now()), want(""))
			wantRefused(t, name, err, dpop.ReasonUseNonce, "lacks the nonce")
		}
		proof := sign(t, k, first, time.Now())
		if p, err := v.Verify(proof, want("")); err != nil || p.Nonce != first {
			t.Errorf("with the nonce: %+v, %v", p, err)
		}
		_, err = v.Verify(proof, want(""))
		wantRefused(t, "twice", err, dpop.ReasonReplayed, "used before")

		time.Sleep(30 * time.Second)
		if v.Nonce() == first {
			t.Error("the nonce did not change")
		}
		if _, err := v.Verify(sign(t, k, first, time.Now()), want("")); err != nil {
			t.Errorf("with the last step's nonce: %v", err)
		}
		time.Sleep(30 * time.Second)
		_, err = v.Verify(sign(t, k, first, time.Now()), want(""))
		wantRefused(t, "two steps later", err, dpop.ReasonUseNonce, "lacks the nonce")
		// With nonces, a proof from before this process began is known by its nonce, not by its time.
		if _, err := v.Verify(sign(t, k, v.Nonce(), time.Now().Add(-61*time.Second)), want("")); err != nil {
			t.Errorf("by a slow clock: %v", err)
		}
	})
}

func TestWithoutAToken(t *testing.T) {
	f := newForger(t)
	v := verifier(dpop.Options{})
	w := dpop.Want{Method: "GET", URL: address}
	for name, proof := range map[string]string{"no ath": f.withClaim("ath", remove{}), "an ath": f.good()} {
		p, err := v.Verify(proof, w)
		if err != nil || p.Thumbprint != f.thumbprint() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for _, bad := range []string{"", "/api", "proxy.example.com/api", "https://proxy.example.com/a b"} {
		if _, err := v.Verify(f.good(), dpop.Want{Method: "GET", URL: bad}); err == nil || cred.KindOf(err) != cred.Internal {
			t.Errorf("a verifier that says its URL is %q: %v", bad, err)
		}
	}
}

func TestKeysSignWhatVerifies(t *testing.T) {
	k, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(dpop.Options{})
	for i, url := range []string{
		address, address + "?a=b#c", "http://127.0.0.1:8080/api", "https://[::1]:8443", "https://proxy.example.com", "HTTP://LOCALHOST:80/a%2fb%41",
	} {
		w := dpop.Want{Method: "POST", URL: url, AccessToken: "token" + strconv.Itoa(i), Thumbprint: k.Thumbprint()}
		proof, err := k.Sign(w, "", now)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if p, err := v.Verify(proof, w); err != nil || strings.ContainsAny(p.URL, "?#") {
			t.Errorf("%s: %+v, %v", url, p, err)
		}
	}
	for _, bad := range []dpop.Want{
		{Method: "GET"},
		{URL: address},
		{Method: "GET", URL: "ftp://proxy.example.com"},
		{Method: "GET", URL: "https://u:p@proxy.example.com"},
		{Method: "\xff", URL: address},
		{Method: "GET", URL: "https://[fe80::1%25lo]/"},
	} {
		if proof, err := k.Sign(bad, "", now); cred.KindOf(err) != cred.Invalid || proof != "" {
			t.Errorf("%+v: %q, %v", bad, proof, err)
		}
	}
}

func sign(t testing.TB, k *dpop.Key, nonce string, at time.Time) string {
	t.Helper()
	proof, err := k.Sign(want(""), nonce, at)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func BenchmarkVerify(b *testing.B) {
	k, err := dpop.NewKey()
	if err != nil {
		b.Fatal(err)
	}
	v, w := verifier(dpop.Options{}), want(k.Thumbprint())
	proofs := make([]string, b.N)
	for i := range proofs {
		proofs[i] = sign(b, k, "", now)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, proof := range proofs {
		if _, err := v.Verify(proof, w); err != nil {
			b.Fatal(err)
		}
	}
}
