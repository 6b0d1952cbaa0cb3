package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

func wantError(t testing.TB, err error, kind cred.Kind, reason string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason || e.Public == "" {
		t.Errorf("got %v, want kind %s and reason %s", err, kind, reason)
	}
}

func newKey(t testing.TB) *store.SealingKey {
	t.Helper()
	k, err := store.NewSealingKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signerOfTest(t testing.TB) *audit.Signer {
	t.Helper()
	signer, err := audit.GenerateSigner("daypass.example.com/test")
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// openInner returns a store to be wrapped, and its file.
func openInner(t testing.TB) (store.Store, string) {
	t.Helper()
	signer := signerOfTest(t)
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := bolt.Open(path, signer, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

var here = store.Key{Table: store.Grants, ID: "here"}

func put(t testing.TB, s store.Store, r store.Record) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(r) }); err != nil {
		t.Fatal(err)
	}
}

// get returns a record by Get, and checks that Scan gives the same or fails alike.
func get(t testing.TB, s store.Store, k store.Key) (r store.Record, err error) {
	t.Helper()
	_ = s.View(context.Background(), func(tx store.Tx) error {
		r, err = tx.Get(k)
		for scanned, serr := range tx.Scan(store.Query{Table: k.Table, Prefix: k.ID}) {
			if (serr == nil) != (err == nil) || !bytes.Equal(scanned.Value, r.Value) {
				t.Errorf("Get gives %q, %v; Scan gives %q, %v", r.Value, err, scanned.Value, serr)
			}
		}
		return nil
	})
	return r, err
}

// TestNothingReadableOnDisk looks for the Value in the file.
func TestNothingReadableOnDisk(t *testing.T) {
	inner, path := openInner(t)
	value := bytes.Repeat([]byte("needle-in-the-file"), 3)
	put(t, inner, store.Record{Key: here, Value: value})
	if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, value) {
		t.Fatalf("a plain store does not show its values: %v", err)
	}
	inner, path = openInner(t)
	s := store.Sealed(inner, newKey(t))
	put(t, s, store.Record{Key: here, Value: value})
	if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte("needle")) {
		t.Errorf("a sealed store shows its values: %v", err)
	}
	if r, err := get(t, s, here); err != nil || !bytes.Equal(r.Value, value) {
		t.Errorf("got %q, %v", r.Value, err)
	}
}

// TestSealedAltered: a Value opens in its own place alone.
func TestSealedAltered(t *testing.T) {
	for name, alter := range map[string]func(t *testing.T, inner store.Store, sealed store.Record){
		"moved to another ID": func(t *testing.T, inner store.Store, r store.Record) {
			put(t, inner, store.Record{Key: store.Key{Table: store.Grants, ID: "there"}, Value: []byte("x")})
			put(t, inner, store.Record{Key: store.Key{Table: store.Grants, ID: "there"}, Rev: 1, Value: r.Value})
			_, err := get(t, store.Sealed(inner, keyOfTest), store.Key{Table: store.Grants, ID: "there"})
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"moved to another table": func(t *testing.T, inner store.Store, r store.Record) {
			k := store.Key{Table: store.Leases, ID: here.ID}
			put(t, inner, store.Record{Key: k, Value: []byte("x")})
			put(t, inner, store.Record{Key: k, Rev: 1, Value: r.Value})
			_, err := get(t, store.Sealed(inner, keyOfTest), k)
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"rolled back": func(t *testing.T, inner store.Store, r store.Record) {
			put(t, store.Sealed(inner, keyOfTest), store.Record{Key: here, Rev: 2, Value: []byte("newer")})
			put(t, inner, store.Record{Key: here, Rev: 3, Value: r.Value})
			_, err := get(t, store.Sealed(inner, keyOfTest), here)
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"from before its deletion": func(t *testing.T, inner store.Store, r store.Record) {
			put(t, inner, store.Record{Key: here, Rev: 2})
			put(t, store.Sealed(inner, keyOfTest), store.Record{Key: here, Value: []byte("made again")})
			if r, err := get(t, store.Sealed(inner, keyOfTest), here); err != nil || string(r.Value) != "made again" || r.Rev != 4 {
				t.Errorf("made again: %+v, %v", r, err)
			}
			put(t, inner, store.Record{Key: here, Rev: 4, Value: r.Value})
			_, err := get(t, store.Sealed(inner, keyOfTest), here)
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"a bit changed": func(t *testing.T, inner store.Store, r store.Record) {
			r.Value[len(r.Value)-1] ^= 1
			put(t, inner, r)
			_, err := get(t, store.Sealed(inner, keyOfTest), here)
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"cut to nothing": func(t *testing.T, inner store.Store, r store.Record) {
			put(t, inner, store.Record{Key: here, Rev: r.Rev, Value: []byte{}})
			_, err := get(t, store.Sealed(inner, keyOfTest), here)
			wantError(t, err, cred.Internal, "RECORD_ALTERED")
		},
		"another key": func(t *testing.T, inner store.Store, _ store.Record) {
			_, err := get(t, store.Sealed(inner, newKey(t)), here)
			wantError(t, err, cred.Internal, "SEALING_KEY_WRONG")
			if !strings.Contains(err.Error(), "start daypass with the sealing key file that belongs to this store") {
				t.Errorf("%q does not say what to do", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inner, _ := openInner(t)
			s := store.Sealed(inner, keyOfTest)
			put(t, s, store.Record{Key: here, Value: []byte("first")})
			put(t, s, store.Record{Key: here, Rev: 1, Value: []byte("second")})
			r, err := get(t, inner, here)
			if err != nil {
				t.Fatal(err)
			}
			alter(t, inner, r)
		})
	}
}

var keyOfTest = func() *store.SealingKey {
	k, err := store.NewSealingKey()
	if err != nil {
		panic(err)
	}
	return k
}()

// TestSealedBounds: the largest Value fits, with Due and all, and a byte more does not.
func TestSealedBounds(t *testing.T) {
	inner, _ := openInner(t)
	s := store.Sealed(inner, keyOfTest)
	put(t, s, store.Record{Key: here, Due: time.UnixMilli(1), Value: make([]byte, store.MaxValue)})
	r, err := get(t, inner, here)
	if over := len(r.Value) - store.MaxValue; err != nil || over > store.SealOverhead || over < 28 {
		t.Errorf("sealing adds %d bytes, %v", over, err)
	}
	err = s.Update(t.Context(), func(tx store.Tx) error {
		return tx.Put(store.Record{Key: here, Rev: 1, Value: make([]byte, store.MaxValue+1)})
	})
	wantError(t, err, cred.Invalid, "STORE_INVALID")
}

func TestSealingKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	written, err := store.WriteSealingKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	read, err := store.ReadSealingKey(path)
	if err != nil {
		t.Fatal(err)
	}
	inner, _ := openInner(t)
	put(t, store.Sealed(inner, written), store.Record{Key: here, Value: []byte("v")})
	if r, err := get(t, store.Sealed(inner, read), here); err != nil || string(r.Value) != "v" {
		t.Errorf("what the written key sealed, the read key opens as %q, %v", r.Value, err)
	}
	before, _ := os.ReadFile(path)
	_, err = store.WriteSealingKey(path)
	wantError(t, err, cred.Invalid, "KEY_FILE")
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was overwritten")
	}
}

func TestSealingKeyRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seal.key")
	if _, err := store.WriteSealingKey(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o700, 0o644, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := store.ReadSealingKey(path)
		wantError(t, err, cred.Invalid, "KEY_FILE")
		if want := "chmod 600 " + path; !strings.Contains(cred.PublicText(err), want) {
			t.Errorf("mode %o: %q does not say %q", mode, cred.PublicText(err), want)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := store.ReadSealingKey(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	empty, text := filepath.Join(dir, "empty"), filepath.Join(dir, "text")
	for name, content := range map[string]string{empty: "", text: `{"primaryKeyId":1,"key":[]}`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{empty, dir, filepath.Join(dir, "missing")} {
		_, err := store.ReadSealingKey(name)
		wantError(t, err, cred.Invalid, "KEY_FILE")
	}
	_, err := store.ReadSealingKey(text)
	wantError(t, err, cred.Invalid, "SEALING_KEY")
	_, err = store.WriteSealingKey(filepath.Join(dir, "missing", "seal.key"))
	wantError(t, err, cred.Invalid, "KEY_FILE")
}

// TestSealingKeyOfAnotherUser needs root to give a file away.
func TestSealingKeyOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "seal.key")
	if _, err := store.WriteSealingKey(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, err := store.ReadSealingKey(path)
	wantError(t, err, cred.Invalid, "KEY_FILE")
	if !strings.Contains(cred.PublicText(err), "chown") {
		t.Errorf("%q does not say what to do", cred.PublicText(err))
	}
}
