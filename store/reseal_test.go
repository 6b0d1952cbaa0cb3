package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// keyFile returns a key in a file.
func keyFile(t testing.TB) (*store.SealingKey, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.key")
	k, err := store.WriteSealingKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

// rotate makes a fresh key the one that seals, and returns the one before.
func rotate(t testing.TB, k *store.SealingKey) (old uint32) {
	t.Helper()
	old = k.Primary()
	id, err := k.Extend()
	if err == nil {
		err = k.Use(id)
	}
	if err != nil || k.Primary() != id || id == old {
		t.Fatalf("key %x after %x: %v", k.Primary(), old, err)
	}
	return old
}

func sealedByOthers(t testing.TB, s store.Store) int {
	t.Helper()
	n, err := store.SealedByOthers(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestResealThenDrop(t *testing.T) {
	inner, _ := openInner(t)
	key, path := keyFile(t)
	s := store.Sealed(inner, key)
	const n = 200
	due := time.UnixMilli(5000).UTC()
	for i := range n {
		table := store.Tables[i%len(store.Tables)]
		put(t, s, store.Record{Key: store.Key{Table: table, ID: fmt.Sprintf("r%03d", i)}, Due: due, Value: fmt.Append(nil, "value ", i)})
	}
	outside, err := key.AEAD().Encrypt([]byte("in a handle"), []byte("about"))
	if err != nil {
		t.Fatal(err)
	}
	old := rotate(t, key)
	if got, err := key.AEAD().Decrypt(outside, []byte("about")); err != nil || string(got) != "in a handle" {
		t.Errorf("what the old key sealed outside of the store opens as %q, %v", got, err)
	}
	put(t, s, store.Record{Key: store.Key{Table: store.Grants, ID: "fresh"}, Value: []byte("x")})
	if got := sealedByOthers(t, s); got != n {
		t.Fatalf("%d records under the old key, want %d", got, n)
	}
	steps := 0
	done, err := store.Reseal(t.Context(), s, func(so int) { steps++ })
	if err != nil || done != n || steps < 3 {
		t.Errorf("resealed %d in %d steps, %v", done, steps, err)
	}
	if got := sealedByOthers(t, s); got != 0 {
		t.Errorf("%d records under the old key are left", got)
	}
	if err := key.Drop(old); err != nil {
		t.Fatal(err)
	}
	reread, err := store.ReadSealingKey(path)
	if err != nil || len(reread.IDs()) != 1 || reread.Primary() != key.Primary() {
		t.Fatalf("the file has %v, %v", reread.IDs(), err)
	}
	for i := range n {
		k := store.Key{Table: store.Tables[i%len(store.Tables)], ID: fmt.Sprintf("r%03d", i)}
		r, err := get(t, store.Sealed(inner, reread), k)
		if err != nil || string(r.Value) != fmt.Sprint("value ", i) || !r.Due.Equal(due) || r.Rev != 2 {
			t.Fatalf("%v: %+v, %v", k, r, err)
		}
	}
	if _, err := key.AEAD().Decrypt(outside, []byte("about")); err == nil {
		t.Error("the dropped key still opens")
	}
	if again, err := store.Reseal(t.Context(), s, nil); err != nil || again != 0 {
		t.Errorf("a second reseal rewrote %d, %v", again, err)
	}
}

// TestKeyChangesAreInTheFile: after each change another process that opens the store reads all of it.
func TestKeyChangesAreInTheFile(t *testing.T) {
	inner, _ := openInner(t)
	key, path := keyFile(t)
	s := store.Sealed(inner, key)
	put(t, s, store.Record{Key: here, Value: []byte("v")})
	opens := func(when string) {
		t.Helper()
		other, err := store.ReadSealingKey(path)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := get(t, store.Sealed(inner, other), here); err != nil || string(r.Value) != "v" || other.Primary() != key.Primary() {
			t.Errorf("%s: %q, %v", when, r.Value, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", when, info.Mode(), err)
		}
	}
	old := key.Primary()
	id, err := key.Extend()
	if again, err2 := key.Extend(); err != nil || err2 != nil || again != id || key.Primary() != old {
		t.Fatalf("extended to %x and %x, %v, %v", id, again, err, err2)
	}
	opens("extended")
	if err := key.Use(id); err != nil {
		t.Fatal(err)
	}
	opens("switched")
	if _, err := store.Reseal(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	opens("resealed")
	if err := errors.Join(key.Drop(old), key.Drop(old)); err != nil {
		t.Fatal(err)
	}
	opens("dropped")
	for name, err := range map[string]error{"drop primary": key.Drop(id), "use unknown": key.Use(old)} {
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v, want an Invalid error", name, err)
		}
	}
	opens("after refusals")
}

// TestOtherProcessRotates: a process that knows the old key alone finds the new one in the file.
func TestOtherProcessRotates(t *testing.T) {
	inner, _ := openInner(t)
	key, path := keyFile(t)
	stale, err := store.ReadSealingKey(path)
	if err != nil {
		t.Fatal(err)
	}
	rotate(t, key)
	put(t, store.Sealed(inner, key), store.Record{Key: here, Value: []byte("v")})
	if r, err := get(t, store.Sealed(inner, stale), here); err != nil || string(r.Value) != "v" {
		t.Errorf("%q, %v", r.Value, err)
	}
	if err := stale.Reload(); err != nil || stale.Primary() != key.Primary() {
		t.Errorf("reloaded %x, %v", stale.Primary(), err)
	}
}

// TestViewOutlivesDrop: a transaction that began before the old key went still reads what it sees.
func TestViewOutlivesDrop(t *testing.T) {
	inner, _ := openInner(t)
	key, _ := keyFile(t)
	s := store.Sealed(inner, key)
	put(t, s, store.Record{Key: here, Value: []byte("v")})
	err := s.View(t.Context(), func(tx store.Tx) error {
		old := rotate(t, key)
		if _, err := store.Reseal(t.Context(), s, nil); err != nil {
			return err
		}
		if err := key.Drop(old); err != nil {
			return err
		}
		r, err := tx.Get(here)
		if string(r.Value) != "v" {
			t.Errorf("read %q", r.Value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestResealNeedsASealedStore(t *testing.T) {
	inner, _ := openInner(t)
	_, err := store.Reseal(t.Context(), inner, nil)
	_, err2 := store.SealedByOthers(t.Context(), inner)
	if cred.KindOf(err) != cred.Invalid || cred.KindOf(err2) != cred.Invalid {
		t.Errorf("%v, %v", err, err2)
	}
}

// TestResealLosesNothing: writers count in records while the key is rotated under them; each count is in
// the store at the end, and no record is left under an old key.
func TestResealLosesNothing(t *testing.T) {
	inner, _ := openInner(t)
	key, _ := keyFile(t)
	s := store.Sealed(inner, key)
	const writers, times = 4, 30
	var wg sync.WaitGroup
	for w := range writers {
		k := store.Key{Table: store.Leases, ID: fmt.Sprint("w", w/2)} // two writers share a record
		wg.Go(func() {
			for range times {
				if err := count(s, k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		old := rotate(t, key)
		for sealedByOthers(t, s) > 0 {
			if _, err := store.Reseal(t.Context(), s, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := key.Drop(old); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	for w := range writers / 2 {
		r, err := get(t, s, store.Key{Table: store.Leases, ID: fmt.Sprint("w", w)})
		if err != nil || len(r.Value) != 2*times {
			t.Errorf("record %d counts %d, %v; want %d", w, len(r.Value), err, 2*times)
		}
	}
}

// count adds a byte to a record.
func count(s store.Store, k store.Key) error {
	return s.Update(context.Background(), func(tx store.Tx) error {
		r, err := tx.Get(k)
		if cred.KindOf(err) == cred.NotFound {
			r, err = store.Record{Key: k}, nil
		}
		if err != nil {
			return err
		}
		r.Value = append(bytes.Clone(r.Value), 'x')
		return tx.Put(r)
	})
}

// TestKeyChangesKeepEverything: whatever order keys are added, used, dropped once nothing needs them, and
// read again from the file, every record opens.
func TestKeyChangesKeepEverything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, "seal.key")
		key, err := store.WriteSealingKey(path)
		if err != nil {
			rt.Fatal(err)
		}
		inner, err := bolt.Open(filepath.Join(dir, "store.db"), signerOfTest(t), bolt.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer inner.Close()
		s := store.Sealed(inner, key)
		want := map[string]int{}
		must := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				id := rapid.StringMatching(`[a-e]`).Draw(rt, "id")
				must(count(s, store.Key{Table: store.Grants, ID: id}))
				want[id]++
			},
			"extend": func(*rapid.T) { _, err := key.Extend(); must(err) },
			"use": func(rt *rapid.T) {
				must(key.Use(rapid.SampledFrom(key.IDs()).Draw(rt, "key")))
			},
			"drop": func(*rapid.T) {
				_, err := store.Reseal(context.Background(), s, nil)
				must(err)
				for _, id := range key.IDs() {
					if id != key.Primary() {
						must(key.Drop(id))
					}
				}
			},
			"restart": func(*rapid.T) {
				key, err = store.ReadSealingKey(path)
				must(err)
				s = store.Sealed(inner, key)
			},
			"": func(*rapid.T) {
				for id, n := range want {
					must(s.View(context.Background(), func(tx store.Tx) error {
						r, err := tx.Get(store.Key{Table: store.Grants, ID: id})
						if err == nil && len(r.Value) != n {
							rt.Fatalf("%s counts %d, want %d", id, len(r.Value), n)
						}
						return err
					}))
				}
			},
		})
	})
}
