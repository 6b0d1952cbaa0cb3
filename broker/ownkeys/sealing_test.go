package ownkeys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/store"
)

// write makes records in every table.
func (w *world) write(n int) {
	w.t.Helper()
	w.must(w.sealed.Update(context.Background(), func(tx store.Tx) error {
		for i := range n {
			k := store.Key{Table: store.Tables[i%len(store.Tables)], ID: fmt.Sprintf("r%03d", i)}
			r, err := tx.Get(k)
			if err != nil && cred.KindOf(err) != cred.NotFound {
				return err
			}
			if err != nil {
				r = store.Record{Key: k}
			}
			r.Value = fmt.Append(nil, "value ", i)
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return nil
	}))
}

// readAll reads what write wrote with the key that stands in the file, as a process that starts now.
func (w *world) readAll(n int) error {
	key, err := store.ReadSealingKey(w.keyFile)
	if err != nil {
		return err
	}
	return store.Sealed(w.disk, key).View(context.Background(), func(tx store.Tx) error {
		for i := range n {
			r, err := tx.Get(store.Key{Table: store.Tables[i%len(store.Tables)], ID: fmt.Sprintf("r%03d", i)})
			if err != nil {
				return err
			}
			if want := fmt.Sprint("value ", i); string(r.Value) != want {
				return fmt.Errorf("record %d is %q", i, r.Value)
			}
		}
		return nil
	})
}

// process returns the rotator of a process of its own, which has read the key's file.
func (w *world) sealer(nested func(context.Context, time.Time) (int, error)) *SealingKey {
	w.t.Helper()
	key, err := store.ReadSealingKey(w.keyFile)
	w.must(err)
	s, err := NewSealingKey(SealingConfig{Store: store.Sealed(w.disk, key), Key: key, Now: w.clock.now, Nested: nested})
	w.must(err)
	return s
}

func (w *world) fileKey() *store.SealingKey {
	w.t.Helper()
	key, err := store.ReadSealingKey(w.keyFile)
	w.must(err)
	return key
}

func TestSealingKeyContract(t *testing.T) {
	w := newWorld(t)
	const n = 150
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(*testing.T, string) issuer.Rotator { return w.sealer(nil) },
		Fresh: func(t *testing.T) {
			w.must(w.sealing.Reload())
			w.write(n)
		},
		Root:  func(context.Context) (string, error) { return store.KeyName(w.fileKey().Primary()), nil },
		Works: func(context.Context) error { return w.readAll(n) },
		Alive: func(context.Context) (int, error) {
			// A key that was only prepared seals nothing yet; one that is used is alive until it is removed.
			return len(w.fileKey().IDs()), nil
		},
		Secrets: func(context.Context) []string {
			text, err := os.ReadFile(w.keyFile)
			w.must(err)
			var file struct {
				Key []struct{ KeyData struct{ Value string } }
			}
			w.must(json.Unmarshal(text, &file))
			var all []string
			for _, k := range file.Key {
				all = append(all, k.KeyData.Value)
			}
			return all
		},
	})
}

// TestSealingKeyFaults breaks each call of the store in each act; after each act, a process that opens
// the store with the file as it is then reads everything.
func TestSealingKeyFaults(t *testing.T) {
	const n = 70
	w := newWorld(t)
	for _, after := range []bool{false, true} {
		for _, name := range []string{"check", "retire", "undo"} {
			for at := 1; ; at++ {
				w.must(w.sealing.Reload())
				w.write(n)
				first := w.fileKey().Primary()
				st := &faulty{}
				d := &rotation{t: t, r: issuer.Rotation{ID: "rot-1"}, x: func() issuer.Rotator {
					s := w.sealer(nil)
					inner := &faulty{Store: w.disk}
					inner.left, inner.after = st.left, st.after
					st.Store, st.left = inner, 0
					s.cfg.Store = store.Sealed(inner, s.cfg.Key)
					return s
				}}
				steps := actNames
				if name == "undo" {
					steps = []string{"check", "prepare", "switch", "undo"}
				}
				broken := false
				for _, step := range steps {
					if step == name {
						st.breakAt(at, after)
						err := d.act(step, 1)
						broken = st.Store.(*faulty).came()
						if broken && err == nil || err != nil && cred.KindOf(err) != cred.Unavailable && cred.KindOf(err) != cred.Pending {
							t.Errorf("%s with fault %d: %v", name, at, err)
						}
						if err := w.readAll(n); err != nil {
							t.Fatalf("%s with fault %d: the file does not open the store: %v", name, at, err)
						}
						if err == nil {
							continue
						}
					}
					d.done(step)
					if err := w.readAll(n); err != nil {
						t.Fatalf("after %s: the file does not open the store: %v", step, err)
					}
				}
				key := w.fileKey()
				if len(key.IDs()) != 1 || (key.Primary() == first) != (name == "undo") {
					t.Errorf("%s, fault %d: the file has %x, began with %x", name, at, key.IDs(), first)
				}
				if !broken {
					break
				}
			}
		}
	}
}

// TestSealingKeyFileFails: where the file can't be replaced nothing changes, neither in the file nor in
// the process, and people read what to do.
func TestSealingKeyFileFails(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	w := newWorld(t)
	s := w.sealer(nil)
	before, err := os.ReadFile(w.keyFile)
	w.must(err)
	w.must(os.Chmod(w.dir, 0o500))
	defer func() { w.must(os.Chmod(w.dir, 0o700)) }()
	findings, err := s.Check(t.Context(), issuer.Rotation{})
	w.must(err)
	if findings[1].OK || !strings.Contains(findings[1].Text, w.keyFile) {
		t.Errorf("%+v does not say that the file can't be replaced", findings[1])
	}
	_, err = s.Prepare(t.Context(), issuer.Rotation{})
	if cred.KindOf(err) != cred.Invalid {
		t.Errorf("prepared: %v", err)
	}
	if after, err := os.ReadFile(w.keyFile); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed, %v", err)
	}
}

// TestSealingKeyWaitsForLeases: what the old key sealed in a lease's handle opens until the lease ends.
func TestSealingKeyWaitsForLeases(t *testing.T) {
	w := newWorld(t)
	lease := cred.NewLease("ls_1", "gr_1", "holder", "github", "sealed handle", w.clock.now(), time.Time{})
	other := cred.NewLease("ls_2", "gr_1", "holder", "vault", "", w.clock.now(), time.Time{})
	key := func(l cred.Lease) store.Key {
		return store.Key{Table: store.Leases, ID: string(l.Grant) + "/" + string(l.ID)}
	}
	put := func(l cred.Lease) {
		t.Helper()
		value, err := l.MarshalJSON()
		w.must(err)
		w.must(w.sealed.Update(context.Background(), func(tx store.Tx) error {
			r, err := tx.Get(key(l))
			if err != nil && cred.KindOf(err) != cred.NotFound {
				return err
			}
			return tx.Put(store.Record{Key: key(l), Rev: r.Rev, Value: value})
		}))
	}
	put(lease)
	put(other)
	s := w.sealer(OpenLeases(w.sealed, "github", "oauth"))
	d := &rotation{t: t, x: func() issuer.Rotator { return s }, r: issuer.Rotation{ID: "rot-1"}}
	d.done("check", "prepare", "switch", "verify")
	err := d.act("retire", 1)
	if cred.KindOf(err) != cred.Pending || issuer.WaitsForPerson(err) || !strings.Contains(cred.PublicText(err), "1 leases") {
		t.Fatalf("retired with a lease that lives: %v", err)
	}
	if n := len(w.fileKey().IDs()); n != 2 {
		t.Fatalf("%d keys in the file, want 2", n)
	}
	w.must(w.sealing.Reload())
	later := cred.NewLease("ls_3", "gr_1", "holder", "github", "sealed later", w.clock.now(), time.Time{})
	put(later) // sealed with the new key
	ended, err := lease.Failed(w.clock.now(), "")
	w.must(err)
	put(ended)
	d.done("retire")
	if n := len(w.fileKey().IDs()); n != 1 {
		t.Errorf("%d keys in the file, want 1", n)
	}
}

// TestSealingKeyWithoutSettling: where nobody recorded when the old key may go, every lease that lives
// counts as one that it sealed.
func TestSealingKeyWithoutSettling(t *testing.T) {
	w := newWorld(t)
	made := w.clock.now()
	s := w.sealer(func(_ context.Context, before time.Time) (int, error) {
		if made.Before(before) {
			return 1, nil
		}
		return 0, nil
	})
	d := &rotation{t: t, x: func() issuer.Rotator { return s }, r: issuer.Rotation{ID: "rot-1"}}
	d.done("prepare", "switch", "verify")
	r := d.r
	r.Attempt, r.Began, r.RetireAfter = 1, w.clock.now(), time.Time{}
	if _, err := s.Retire(t.Context(), r); cred.KindOf(err) != cred.Pending || len(w.fileKey().IDs()) != 2 {
		t.Errorf("retired under a lease that lives: %v; the file has %d keys", err, len(w.fileKey().IDs()))
	}
}

// TestSealingKeyUnderLoad rotates while others write; nothing is lost and nothing fails for them.
func TestSealingKeyUnderLoad(t *testing.T) {
	w := newWorld(t)
	s, err := NewSealingKey(SealingConfig{Store: w.sealed, Key: w.sealing, Now: w.clock.now})
	w.must(err)
	stop, wrote := make(chan struct{}), make(chan error)
	k := store.Key{Table: store.Grants, ID: "counted"}
	n := 0
	go func() {
		var failed error
		for {
			select {
			case <-stop:
				wrote <- failed
				return
			default:
			}
			failed = errors.Join(failed, w.sealed.Update(context.Background(), func(tx store.Tx) error {
				r, err := tx.Get(k)
				if err != nil && cred.KindOf(err) != cred.NotFound {
					return err
				}
				if err == nil && string(r.Value) != fmt.Sprint(n) {
					return fmt.Errorf("read %q, want %d", r.Value, n)
				}
				return tx.Put(store.Record{Key: k, Rev: r.Rev, Value: fmt.Append(nil, n+1)})
			}))
			n++
		}
	}()
	for i := range 3 {
		d := &rotation{t: t, x: func() issuer.Rotator { return s }, r: issuer.Rotation{ID: fmt.Sprint("rot-", i)}}
		d.done(actNames...)
	}
	close(stop)
	if err := <-wrote; err != nil || n == 0 {
		t.Errorf("after %d writes: %v", n, err)
	}
}
