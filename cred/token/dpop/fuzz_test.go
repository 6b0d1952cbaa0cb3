package dpop_test

import (
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

// seeds are proofs that hold, and some that almost do.
func seeds(f *testing.F) {
	g := newForger(f)
	good := g.good()
	for _, s := range []string{
		good, "", "..", good + ".", good[:len(good)-1], strings.Replace(good, ".", "..", 1),
		g.withHeader("typ", "JWT"), g.withHeader("alg", "none"), g.withHeader("jwk", remove{}), g.withKey("d", "AAAA"),
		g.withClaim("htu", "https://proxy.example.com:443/api/v1/%6dodels?x#y"), g.withClaim("iat", 1.5), g.withClaim("exp", 7),
		g.withClaim("nonce", "n"), g.withClaim("jti", "\u2028"),
	} {
		f.Add(s)
	}
}

// What is read can be read again and says the same; what is refused is refused as a proof, never as
// a fault of ours.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, proof string) {
		p, err := dpop.Parse(proof)
		if err != nil {
			if cred.KindOf(err) != cred.Unauthenticated || p != (dpop.Proof{}) {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		if len(proof) > dpop.MaxBytes || strings.Count(proof, ".") != 2 || strings.ContainsAny(proof, " \r\n=+/,") {
			t.Fatalf("%q was read", proof)
		}
		if p.ID == "" || p.Method == "" || p.URL == "" || len(p.Thumbprint) != 43 || p.IssuedAt.IsZero() {
			t.Fatalf("%+v lacks something", p)
		}
		if again, err := dpop.Parse(proof); err != nil || again != p {
			t.Fatalf("%+v the second time, %+v the first: %v", again, p, err)
		}
	})
}

// A proof is taken at most once, and only for what it says itself.
func FuzzVerify(f *testing.F) {
	g := newForger(f)
	good := g.good()
	f.Add(good, "GET", address, accessToken)
	f.Add(good, "POST", address, accessToken)
	f.Add(good, "GET", address+"/../x", "")
	f.Add(g.withClaim("htu", "HTTP://[::1]:80"), "GET", "http://[::1]/", accessToken)
	f.Add(g.withClaim("htu", "https://h/%2e%2f%7E"), "GET", "https://H:443/.%2F~", accessToken)
	f.Fuzz(func(t *testing.T, proof, method, url, tok string) {
		p, parseErr := dpop.Parse(proof)
		at := now
		if parseErr == nil {
			at = p.IssuedAt
		}
		v := verifier(dpop.Options{Now: func() time.Time { return at }})
		w := dpop.Want{Method: method, URL: url, AccessToken: tok}
		got, err := v.Verify(proof, w)
		if err != nil {
			return
		}
		if parseErr != nil || got != p || p.Method != method || tok != "" && p.TokenHash != dpop.TokenHash(tok) {
			t.Fatalf("%+v was taken for %+v", got, w)
		}
		if _, err := v.Verify(proof, w); err == nil {
			t.Fatal("it was taken twice")
		}
	})
}

// URLs that are taken for one another are so in both directions, and whoever signs for a URL is
// taken for it.
func FuzzURL(f *testing.F) {
	k, err := dpop.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{address, "HTTPS://H:443", "http://[::1]:80/%41%2f?q#f", "https://h/a/../b", "https://h:/", "https://u@h/", "https:///", "http://h:65536/"} {
		f.Add(s, address)
		f.Add(s, s+"/")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		takes := func(signed, asked string) bool {
			proof, err := k.Sign(dpop.Want{Method: "GET", URL: signed}, "", now)
			if err != nil {
				return false
			}
			_, err = verifier(dpop.Options{}).Verify(proof, dpop.Want{Method: "GET", URL: asked})
			return err == nil
		}
		if takes(a, b) != takes(b, a) {
			t.Fatalf("%q and %q are taken for one another in one direction", a, b)
		}
		if _, err := k.Sign(dpop.Want{Method: "GET", URL: a}, "", now); err == nil && len(a) < dpop.MaxBytes/4 && !takes(a, a) {
			t.Fatalf("%q is not taken for itself", a)
		}
	})
}
