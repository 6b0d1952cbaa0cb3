package cred_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"pgregory.net/rapid"
)

func baseRequest() (cred.Request, cred.Principal) {
	want := cred.Request{
		Target: "orders", Scopes: []string{"read", "write"}, Params: map[string]string{"a": "1", "b": "2"},
		TTL: time.Minute, Reason: "deploy", IdempotencyKey: "k1",
	}
	holder := cred.Principal{
		Provider: "p", Issuer: "i", Subject: "s", Name: "n", Kind: cred.KindAgent, Groups: []string{"g"},
		Claims: map[string]any{"c": 1.0}, Actor: &cred.Principal{Provider: "p", Issuer: "i", Subject: "a"},
	}
	return want, holder
}

func TestDigestIgnoresWhatIsNotAsked(t *testing.T) {
	want, who := baseRequest()
	base := want.Digest(who)
	for name, change := range map[string]func(*cred.Request, *cred.Principal){
		"order of scopes":   func(r *cred.Request, _ *cred.Principal) { r.Scopes = []string{"write", "read"} },
		"repeated scopes":   func(r *cred.Request, _ *cred.Principal) { r.Scopes = []string{"write", "read", "write"} },
		"idempotency key":   func(r *cred.Request, _ *cred.Principal) { r.IdempotencyKey = "k2" },
		"the caller's name": func(_ *cred.Request, p *cred.Principal) { p.Name = "m" },
		"groups":            func(_ *cred.Request, p *cred.Principal) { p.Groups = nil },
		"claims":            func(_ *cred.Request, p *cred.Principal) { p.Claims = nil },
	} {
		r, p := baseRequest()
		change(&r, &p)
		if r.Digest(p) != base {
			t.Errorf("%s: the digest is another one", name)
		}
	}
	if !slices.Equal(want.Scopes, []string{"read", "write"}) {
		t.Error("the request itself changed")
	}
}

func TestDigestCountsEverythingElse(t *testing.T) {
	want, who := baseRequest()
	seen := map[cred.Digest]string{want.Digest(who): "the request itself"}
	for name, change := range map[string]func(*cred.Request, *cred.Principal){
		"target":                   func(r *cred.Request, _ *cred.Principal) { r.Target = "billing" },
		"a scope more":             func(r *cred.Request, _ *cred.Principal) { r.Scopes = append(r.Scopes, "admin") },
		"a scope less":             func(r *cred.Request, _ *cred.Principal) { r.Scopes = []string{"read"} },
		"no scope":                 func(r *cred.Request, _ *cred.Principal) { r.Scopes = nil },
		"scopes in one":            func(r *cred.Request, _ *cred.Principal) { r.Scopes = []string{"read,write"} },
		"scopes quoted":            func(r *cred.Request, _ *cred.Principal) { r.Scopes = []string{`read","write`} },
		"a param's value":          func(r *cred.Request, _ *cred.Principal) { r.Params["a"] = "2" },
		"a param more":             func(r *cred.Request, _ *cred.Principal) { r.Params["c"] = "" },
		"a param less":             func(r *cred.Request, _ *cred.Principal) { delete(r.Params, "a") },
		"params swapped":           func(r *cred.Request, _ *cred.Principal) { r.Params = map[string]string{"a": "2", "b": "1"} },
		"TTL":                      func(r *cred.Request, _ *cred.Principal) { r.TTL++ },
		"no TTL":                   func(r *cred.Request, _ *cred.Principal) { r.TTL = 0 },
		"reason":                   func(r *cred.Request, _ *cred.Principal) { r.Reason = "Deploy" },
		"provider":                 func(_ *cred.Request, p *cred.Principal) { p.Provider = "q" },
		"issuer":                   func(_ *cred.Request, p *cred.Principal) { p.Issuer = "j" },
		"subject":                  func(_ *cred.Request, p *cred.Principal) { p.Subject = "t" },
		"subject into issuer":      func(_ *cred.Request, p *cred.Principal) { p.Issuer, p.Subject = "is", "" },
		"no actor":                 func(_ *cred.Request, p *cred.Principal) { p.Actor = nil },
		"an unnamed actor":         func(_ *cred.Request, p *cred.Principal) { p.Actor = &cred.Principal{} },
		"the actor":                func(_ *cred.Request, p *cred.Principal) { p.Actor.Subject = "b" },
		"another actor's provider": func(_ *cred.Request, p *cred.Principal) { p.Actor.Provider = "q" },
		"an actor's actor":         func(_ *cred.Request, p *cred.Principal) { p.Actor.Actor = &cred.Principal{Subject: "c"} },
		"an unnamed one":           func(_ *cred.Request, p *cred.Principal) { p.Actor.Actor = &cred.Principal{} },
		"one beyond":               func(_ *cred.Request, p *cred.Principal) { p.Actor.Actor = &cred.Principal{Actor: &cred.Principal{}} },
		"DPoP":                     func(r *cred.Request, _ *cred.Principal) { r.Binding = cred.BindDPoP },
		"mTLS":                     func(r *cred.Request, _ *cred.Principal) { r.Binding = cred.BindMTLS },
		"roles exchanged":          func(_ *cred.Request, p *cred.Principal) { p.Subject, p.Actor.Subject = "a", "s" },
	} {
		r, p := baseRequest()
		change(&r, &p)
		d := r.Digest(p)
		if other, taken := seen[d]; taken {
			t.Errorf("%s gives the digest of %s", name, other)
		}
		seen[d] = name
	}
}

// Approvals, logs and what people have noted depend on these digests: they never change.
func TestDigestIsFixed(t *testing.T) {
	want := cred.Request{Target: "orders", Scopes: []string{"write", "read"}, Params: map[string]string{"b": "2", "a": "1"}, TTL: time.Minute, Reason: "deploy <x>"}
	who := cred.Principal{Provider: "p", Issuer: "https://id.example.com", Subject: "s", Cautions: map[string]string{"c": "v"}}
	agent := who.Clone()
	agent.Actor = &cred.Principal{Provider: "p", Issuer: "https://id.example.com", Subject: "a"}
	bound := want
	bound.Binding = cred.BindDPoP
	agents := agent.Clone()
	agents.Actor.Actor = &cred.Principal{Subject: "b"}
	for text, got := range map[string]cred.Digest{
		"7b0dc84434d8c24babe824b275047f9f92815ea5f2433cb1606580e15613f538": want.Digest(who),
		"901572220b7ed0de0862a2a4018c008cb2b8f4df14f0cbe58699aaac0d49804a": want.Digest(agent),
		"f1506faaf1ff2b573f7da68cf7c12d8bb42a6b8c55c2a83121c1df8da10181e4": cred.Request{}.Digest(cred.Principal{}),
		"e45876253cbda203633faafcabe27b8a983be72f2170c978977acc50b87e1d28": bound.Digest(who),
		"006a206d2c1be6db668178237a4ddbeff2691d0be47764e7d7f0de58b8616dae": want.Digest(agents),
	} {
		if got.String() != text {
			t.Errorf("the digest is %s, was %s", got, text)
		}
	}
}

// Two requests have the same digest only if they are the same.
func TestDigestIsInjective(t *testing.T) {
	draw := func(t *rapid.T, label string) cred.Request {
		word := rapid.SampledFrom([]string{"", "a", "b", "a,b", `"`, "a b", "é"})
		return cred.Request{
			Target: word.Draw(t, label+" target"), Reason: word.Draw(t, label+" reason"),
			Scopes: rapid.SliceOfNDistinct(word, 0, 2, rapid.ID).Draw(t, label+" scopes"),
			Params: rapid.MapOfN(word, word, 0, 2).Draw(t, label+" params"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		slices.Sort(a.Scopes)
		slices.Sort(b.Scopes)
		ja, errA := json.Marshal(a)
		jb, errB := json.Marshal(b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if same := a.Digest(cred.Principal{}) == b.Digest(cred.Principal{}); same != (string(ja) == string(jb)) {
			t.Fatalf("%s and %s: same digest %v", ja, jb, same)
		}
	})
}

func TestDigestText(t *testing.T) {
	want, who := baseRequest()
	d := want.Digest(who)
	text, err := d.MarshalText()
	if err != nil || len(text) != 64 || string(text) != d.String() {
		t.Fatalf("text %q, error %v", text, err)
	}
	var back cred.Digest
	if err := back.UnmarshalText(text); err != nil || back != d {
		t.Errorf("digest %s, error %v", back, err)
	}
	for _, bad := range []string{"zz", string(text) + "00", string(text[:62]), "z" + string(text[1:])} {
		if err := back.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}
