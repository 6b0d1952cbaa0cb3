package ownkeys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/store"
)

var ringRecord = store.Key{Table: store.Keys, ID: "grant-tokens"}

const brokerURL = "https://daypass.example.com"

// putRing stores a fresh ring.
func (w *world) putRing(at time.Time) *token.KeyRing {
	w.t.Helper()
	ring, err := token.NewKeyRing(token.EdDSA, at)
	w.must(err)
	w.must(w.sealed.Update(context.Background(), func(tx store.Tx) error {
		r, err := tx.Get(ringRecord)
		if err != nil && cred.KindOf(err) != cred.NotFound {
			return err
		}
		if err != nil {
			r = store.Record{Key: ringRecord}
		}
		r.Value = ring.Encode().Reveal()
		return tx.Put(r)
	}))
	return ring
}

// storedRing is the ring as a process that starts now has it.
func (w *world) storedRing() *token.KeyRing {
	w.t.Helper()
	var ring *token.KeyRing
	w.must(w.sealed.View(context.Background(), func(tx store.Tx) error {
		r, err := tx.Get(ringRecord)
		if err != nil {
			return err
		}
		ring, err = token.ParseKeyRing(cred.NewSecret(r.Value))
		return err
	}))
	return ring
}

func (w *world) signing(st store.Store, change func(*SigningConfig)) (*SigningKeys, *token.Live) {
	w.t.Helper()
	live := token.NewLive(w.storedRing())
	cfg := SigningConfig{Store: st, Record: ringRecord, Keys: live, URL: brokerURL, Now: w.clock.now}
	if change != nil {
		change(&cfg)
	}
	s, err := NewSigningKeys(cfg)
	w.must(err)
	return s, live
}

func claims(at time.Time) token.Claims {
	return token.Claims{
		Issuer: brokerURL, Subject: "s", Audience: []string{token.Audience("api")}, ClientID: "ci",
		IssuedAt: at, NotBefore: at, ExpiresAt: at.Add(time.Hour), ID: "j", Grant: token.GrantClaims{ID: "gr_1", Target: "api"},
	}
}

func verifies(keys token.Keys, tok string, at time.Time) error {
	_, err := token.NewVerifier(brokerURL, keys, func() time.Time { return at }).Verify(context.Background(), tok, token.Audience("api"))
	return err
}

func TestSigningKeysContract(t *testing.T) {
	w := newWorld(t)
	w.clock.by = 40 * 24 * time.Hour
	w.putRing(w.clock.now())
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(t *testing.T, _ string) issuer.Rotator {
			s, _ := w.signing(w.sealed, nil)
			return s
		},
		Fresh: func(*testing.T) { w.putRing(w.clock.now()) },
		Root:  func(context.Context) (string, error) { return w.storedRing().KeyID(), nil },
		Works: func(context.Context) error {
			ring, at := w.storedRing(), w.clock.now()
			tok, err := ring.Sign(claims(at))
			return errors.Join(err, verifies(ring, tok, at))
		},
		Alive: func(context.Context) (int, error) {
			if w.storedRing().PreviousID() != "" {
				return 2, nil
			}
			return 1, nil
		},
		Secrets: func(context.Context) []string { return ringSecrets(w.storedRing()) },
	})
}

// ringSecrets are the private halves of a ring's keys.
func ringSecrets(r *token.KeyRing) []string {
	var all []string
	for part := range strings.SplitSeq(r.Encode().RevealString(), `"d":"`) {
		d, _, _ := strings.Cut(part, `"`)
		all = append(all, d)
	}
	return all[1:]
}

// TestSigningKeysFaults breaks each call of the store in each act, in both forms; each act is done by a
// process of its own, as after a crash.
func TestSigningKeysFaults(t *testing.T) {
	w := newWorld(t)
	w.clock.by = 40 * 24 * time.Hour
	for _, after := range []bool{false, true} {
		for _, name := range append(actNames, "undo") {
			for at := 1; ; at++ {
				first := w.putRing(w.clock.now())
				st := &faulty{Store: w.sealed}
				d := &rotation{t: t, x: func() issuer.Rotator { s, _ := w.signing(st, nil); return s }, r: issuer.Rotation{ID: "rot-1"}}
				steps := actNames
				if name == "undo" {
					steps = []string{"check", "prepare", "switch", "verify", "undo"}
				}
				broken := false
				for _, step := range steps {
					if step == name {
						st.breakAt(at, after)
						err := d.act(step, 1)
						if broken = st.came(); broken && cred.KindOf(err) != cred.Unavailable {
							t.Errorf("%s with fault %d: %v", name, at, err)
						}
						if err == nil {
							continue
						}
					}
					d.done(step)
				}
				ring := w.storedRing()
				if want := first.NextID(); name != "undo" && (ring.KeyID() != want || ring.PreviousID() != "") {
					t.Errorf("%s, fault %d, after %v: the ring is %v", name, at, after, ring)
				}
				if name == "undo" && (ring.KeyID() != first.KeyID() || ring.NextID() != first.NextID()) {
					t.Errorf("undo, fault %d: the ring is %v, want %v", at, ring, first)
				}
				if !broken {
					break
				}
			}
		}
	}
}

// TestSigningKeysWaits: the next key signs when caches have it, and the old one goes when no token of it
// can hold.
func TestSigningKeysWaits(t *testing.T) {
	w := newWorld(t)
	start := w.clock.now()
	w.clock.by = 0
	w.putRing(start)
	s, live := w.signing(w.sealed, func(c *SigningConfig) { c.Longest, c.Caches = time.Hour, 10*time.Minute })
	at := func(d time.Duration) { w.clock.at = start.Add(d) }
	ctx := t.Context()
	wantWait := func(err error, d time.Duration) {
		t.Helper()
		after, _ := cred.RetryAfter(err)
		if cred.KindOf(err) != cred.Pending || after != d {
			t.Fatalf("%v after %v, want Pending for %v", err, after, d)
		}
	}
	at(9 * time.Minute)
	_, err := s.Prepare(ctx, issuer.Rotation{})
	wantWait(err, time.Minute)
	if f, err := s.Check(ctx, issuer.Rotation{}); err != nil || !strings.Contains(f[1].Text, clock(start.Add(10*time.Minute))) {
		t.Errorf("%v, %v does not say when", f, err)
	}
	at(10 * time.Minute)
	r, err := s.Prepare(ctx, issuer.Rotation{ID: "rot-1"})
	w.must(err)
	old, err := live.Sign(claims(start.Add(10 * time.Minute)))
	w.must(err)
	r, err = s.Switch(ctx, r)
	w.must(err)
	if want := start.Add(80*time.Minute + token.MaxSkew); !r.RetireAfter.Equal(want) {
		t.Errorf("retires after %v, want %v", r.RetireAfter, want)
	}
	_, err = s.Prepare(ctx, issuer.Rotation{}) // a second rotation would drop the key that still verifies
	wantWait(err, 70*time.Minute+token.MaxSkew)
	at(79 * time.Minute)
	_, err = s.Retire(ctx, r)
	wantWait(err, time.Minute+token.MaxSkew)
	if err := verifies(live, old, start.Add(30*time.Minute)); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
	at(81 * time.Minute)
	_, err = s.Retire(ctx, r)
	w.must(err)
	if err := verifies(live, old, start.Add(30*time.Minute)); cred.KindOf(err) != cred.Unauthenticated {
		t.Errorf("a token of the dropped key: %v", err)
	}
	kinds := ""
	for _, e := range w.events(audit.KeyRotated) {
		kinds += fmt.Sprint(e.Detail["step"], " ")
	}
	if kinds != "switched retired " {
		t.Errorf("recorded %q", kinds)
	}
}

// TestSigningKeysOtherProcess: a process that knows nothing of two rotations finds the key in the store
// when it meets it.
func TestSigningKeysOtherProcess(t *testing.T) {
	w := newWorld(t)
	w.putRing(w.clock.now())
	_, stale := w.signing(w.sealed, nil)
	for range 2 {
		d := &rotation{t: t, x: func() issuer.Rotator { s, _ := w.signing(w.sealed, nil); return s }, r: issuer.Rotation{ID: "rot-1"}}
		d.done(actNames...)
	}
	at := w.clock.now()
	tok, err := w.storedRing().Sign(claims(at))
	w.must(err)
	if err := verifies(stale, tok, at); err != nil {
		t.Error(err)
	}
	if stale.Current().KeyID() != w.storedRing().KeyID() {
		t.Error("the stale process did not take the stored ring")
	}
}

// TestSigningKeysUnproven: a published set without the new key fails Verify for good, and Undo mends it.
func TestSigningKeysUnproven(t *testing.T) {
	w := newWorld(t)
	first := w.putRing(w.clock.now())
	var served []byte
	x, live := w.signing(w.sealed, func(c *SigningConfig) {
		c.Published = func(context.Context) ([]byte, error) { return served, nil }
	})
	var set jose.JSONWebKeySet
	w.must(json.Unmarshal(live.JWKS(), &set))
	set.Keys = set.Keys[:1]
	d := &rotation{t: t, x: func() issuer.Rotator { return x }, r: issuer.Rotation{ID: "rot-1"}}
	d.done("check", "prepare", "switch")
	var err error
	served, err = json.Marshal(set)
	w.must(err)
	if err := d.act("verify", 1); cred.KindOf(err) != cred.Invalid {
		t.Errorf("verified with a set that lacks the key: %v", err)
	}
	served = live.JWKS()
	d.done("verify")
	at := w.clock.now()
	tok, err := live.Sign(claims(at))
	w.must(err)
	d.done("undo")
	if live.Current().KeyID() != first.KeyID() {
		t.Errorf("signs with %s after Undo, want %s", live.Current().KeyID(), first.KeyID())
	}
	if err := verifies(live, tok, at); err != nil {
		t.Errorf("what was signed between Switch and Undo: %v", err)
	}
}

// TestSigningKeysOvertaken: a rotation does not touch a ring that somebody else has rotated.
func TestSigningKeysOvertaken(t *testing.T) {
	w := newWorld(t)
	w.putRing(w.clock.now())
	d := &rotation{t: t, x: func() issuer.Rotator { s, _ := w.signing(w.sealed, nil); return s }, r: issuer.Rotation{ID: "rot-1"}}
	d.done("prepare")
	w.putRing(w.clock.now())
	for _, name := range []string{"switch", "verify"} {
		if err := d.act(name, 1); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v, want an Invalid error", name, err)
		}
	}
	if err := d.act("undo", 1); err != nil { // there is nothing of it to be undone, and a new one may begin
		t.Errorf("undo: %v", err)
	}
	if n := len(w.events(audit.KeyRotated)); n != 0 {
		t.Errorf("%d entries of what was not done", n)
	}
}

// TestSigningKeysNeverStrand: in whatever order acts, deaths and the passing of time come, a token that
// was signed in the last hour verifies in every process that reloads.
func TestSigningKeysNeverStrand(t *testing.T) {
	const longest = time.Hour
	w := newWorld(t)
	w.clock.by = 0
	rapid.Check(t, func(rt *rapid.T) {
		w.putRing(w.clock.now())
		fresh := func() issuer.Rotator {
			s, _ := w.signing(w.sealed, func(c *SigningConfig) { c.Longest, c.Caches = longest, 5*time.Minute })
			return s
		}
		x := fresh()
		r := issuer.Rotation{ID: "rot-1"}
		tokens := map[string]time.Time{}
		act := func(do func() (issuer.Rotation, error)) {
			next, err := do()
			if err == nil {
				r = next
			}
		}
		do := map[string]func(*rapid.T){
			"prepare": func(*rapid.T) { act(func() (issuer.Rotation, error) { return x.Prepare(context.Background(), r) }) },
			"switch":  func(*rapid.T) { act(func() (issuer.Rotation, error) { return x.Switch(context.Background(), r) }) },
			"retire":  func(*rapid.T) { act(func() (issuer.Rotation, error) { return x.Retire(context.Background(), r) }) },
			"undo":    func(*rapid.T) { act(func() (issuer.Rotation, error) { return r, x.Undo(context.Background(), r) }) },
			"restart": func(*rapid.T) { x = fresh() },
			"time": func(rt *rapid.T) {
				w.clock.at = w.clock.at.Add(time.Duration(rapid.IntRange(1, 120).Draw(rt, "minutes")) * time.Minute)
			},
			"sign": func(*rapid.T) {
				c := claims(w.clock.at)
				tok, err := w.storedRing().Sign(c)
				if err != nil {
					rt.Fatal(err)
				}
				tokens[tok] = c.ExpiresAt
			},
			"": func(*rapid.T) {
				for tok, end := range tokens {
					if !w.clock.at.Before(end) {
						delete(tokens, tok)
					} else if err := verifies(w.storedRing(), tok, w.clock.at); err != nil {
						rt.Fatalf("a token that holds until %v at %v: %v", end, w.clock.at, err)
					}
				}
			},
		}
		runAll(rt, do)
	})
}
