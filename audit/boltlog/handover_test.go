package boltlog

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// mustHandOver hands a log over to a fresh key.
func mustHandOver(t testing.TB, l *Log) *audit.Signer {
	t.Helper()
	next := newSigner(t)
	if err := l.HandOver(context.Background(), next, time.Unix(1_800_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	return next
}

// exportOf exports a log, filtered where keep is set.
func exportOf(t testing.TB, l *Log, keep func(uint64) bool) []byte {
	t.Helper()
	ctx := context.Background()
	c, err := l.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range l.Entries(ctx, 0, c.Size) {
		if err == nil && keep != nil {
			if !keep(e.Seq) {
				continue
			}
			e.Proof, err = l.Prove(ctx, e.Seq, c.Size)
		}
		if err := errors.Join(err, x.Write(e)); err != nil {
			t.Fatal(err)
		}
	}
	end, err := l.Trailer(ctx, c)
	if err == nil {
		err = x.Close(end)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func wantVerified(t testing.TB, file []byte, key string, handedTo ...string) {
	t.Helper()
	r, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: key})
	if err != nil || !slices.Equal(r.HandedTo, handedTo) {
		t.Errorf("handed to %v, %v; want %v", r.HandedTo, err, handedTo)
	}
}

func TestHandOver(t *testing.T) {
	path, first := logPath(t), newSigner(t)
	l, err := Open(path, first, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event(0), event(1), event(2))
	before, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := mustHandOver(t, l)
	if l.VerifierKey() != second.VerifierKey() || l.Signer().VerifierKey() != second.VerifierKey() {
		t.Errorf("signed by %s after the hand-over", l.VerifierKey())
	}
	if err := l.HandOver(t.Context(), second, time.Now()); err != nil {
		t.Error(err)
	}
	mustAppend(t, l, event(3))
	third := mustHandOver(t, l)
	if size, _ := l.Size(); size != 6 {
		t.Errorf("%d entries, want 6: a hand-over to the key in use is none", size)
	}
	verify(t, l)
	for _, keep := range []func(uint64) bool{nil, func(seq uint64) bool { return seq == 1 }, func(uint64) bool { return false }} {
		file := exportOf(t, l, keep)
		wantVerified(t, file, first.VerifierKey(), second.VerifierKey(), third.VerifierKey())
		wantVerified(t, file, second.VerifierKey(), third.VerifierKey())
		wantVerified(t, file, third.VerifierKey())
	}
	// A checkpoint from before goes on to be one, with its own key and the hand-overs up to it.
	end, err := l.Trailer(t.Context(), before)
	if err != nil || end.VerifierKey != first.VerifierKey() || len(end.HandOvers) != 0 {
		t.Errorf("%+v, %v", end, err)
	}
	if _, err := l.HandOvers(t.Context(), 100); cred.KindOf(err) != cred.Invalid {
		t.Errorf("hand-overs beyond the end: %v", err)
	}
	stranger, _ := audit.GenerateSigner("other.example.com")
	wantError(t, l.HandOver(t.Context(), stranger, time.Now()), cred.Invalid, reasonOrigin)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	for name, s := range map[string]*audit.Signer{"first": first, "second beside first": second.Beside(first), "stranger's": newSigner(t)} {
		_, err := Open(path, s, Options{noSync: true})
		wantError(t, err, cred.Invalid, reasonKey)
		if !strings.Contains(cred.PublicText(err), third.VerifierKey()) {
			t.Errorf("%s: %v does not name the key that is wanted", name, err)
		}
	}
	for _, s := range []*audit.Signer{third, second.Beside(third), third.Beside(second)} {
		l, err := Open(path, s, Options{noSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if l.VerifierKey() != third.VerifierKey() {
			t.Errorf("opened with %s", l.VerifierKey())
		}
		wantVerified(t, exportOf(t, l, nil), first.VerifierKey(), second.VerifierKey(), third.VerifierKey())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHandOverAtTheBeginning: the hand-over may be the log's first entry.
func TestHandOverAtTheBeginning(t *testing.T) {
	first := newSigner(t)
	l := openLog(t, logPath(t), first)
	second := mustHandOver(t, l)
	wantVerified(t, exportOf(t, l, nil), first.VerifierKey(), second.VerifierKey())
}

// TestHandOverFormat: a log is of the first format until it is handed over.
func TestHandOverFormat(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	version := func() (v uint64) {
		_ = l.db.View(func(tx *bbolt.Tx) (err error) {
			v, err = fromBE(tx.Bucket(bucketHead).Get(keyVersion))
			return err
		})
		return v
	}
	if v := version(); v != versionPlain {
		t.Errorf("a new log has format %d", v)
	}
	mustHandOver(t, l)
	if v := version(); v != versionHandOvers {
		t.Errorf("a log that was handed over has format %d", v)
	}
}

// TestHandOverFails: nothing of it has happened, and it can be done again.
func TestHandOverFails(t *testing.T) {
	first := newSigner(t)
	l := openLog(t, logPath(t), first)
	mustAppend(t, l, event(0))
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error { return errors.Join(errors.New("disk full"), tx.Rollback()) }
	wantError(t, l.HandOver(t.Context(), newSigner(t), time.Now()), cred.Unavailable, reasonWrite)
	if size, _ := l.Size(); size != 1 || l.VerifierKey() != first.VerifierKey() {
		t.Errorf("%d entries, signed by %s", size, l.VerifierKey())
	}
	l.commit = commit
	second := mustHandOver(t, l)
	wantVerified(t, exportOf(t, l, nil), first.VerifierKey(), second.VerifierKey())
}

// TestHandOverUncertain: the hand-over is in the file and its sync has failed; whoever opens the log
// anew with both keys goes on with the new one.
func TestHandOverUncertain(t *testing.T) {
	path, first, second := logPath(t), newSigner(t), newSigner(t)
	l, err := Open(path, first, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error { return errors.Join(errors.New("sync failed"), commit(tx)) }
	wantError(t, l.HandOver(t.Context(), second, time.Now()), cred.Unavailable, reasonUncertain)
	if l.VerifierKey() != first.VerifierKey() {
		t.Error("the new key signs what the disk may not hold")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path, first.Beside(second))
	if l.VerifierKey() != second.VerifierKey() {
		t.Errorf("opened with %s", l.VerifierKey())
	}
	wantVerified(t, exportOf(t, l, nil), first.VerifierKey(), second.VerifierKey())
}

// TestHandOverAmongWriters: whatever is exported while others write and hand over verifies with the
// first key.
func TestHandOverAmongWriters(t *testing.T) {
	first := newSigner(t)
	l := openLog(t, logPath(t), first)
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 40 {
				if _, err := l.Append(context.Background(), event(w*100+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			mustHandOver(t, l)
		}
	})
	for range 20 {
		file := exportOf(t, l, nil)
		if _, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: first.VerifierKey()}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	verify(t, l)
}
