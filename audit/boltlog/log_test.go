package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(runChild(child))
	}
	goleak.VerifyTestMain(m)
}

// wantError fails the test unless an error has a kind and a reason.
func wantError(t testing.TB, err error, kind cred.Kind, reason string) {
	t.Helper()
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason || e.Public == "" {
		t.Errorf("got %v, want kind %s and reason %s", err, kind, reason)
	}
}

// TestTreeEqualsTlog holds our tree against tlog's own functions at every size up to 300: the rows
// that are stored, the checkpoints, the proofs, and the right edge as it is read back.
func TestTreeEqualsTlog(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	var want memory
	for n := range 300 {
		mustAppend(t, l, event(n))
		canonical := collect(t, l, uint64(n), uint64(n)+1)[0].Canonical
		var row []byte
		for _, h := range want.add(t, n, canonical) {
			row = append(row, h[:]...)
		}
		size := uint64(n) + 1
		root, err := tlog.TreeHash(int64(size), &want)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := l.Checkpoint(t.Context()); err != nil || c.Root != root || c.Size != size {
			t.Fatalf("checkpoint at %d: %v, %v; want root %v", size, c, err, root)
		}
		err = l.db.View(func(tx *bbolt.Tx) error {
			if got := tx.Bucket(bucketEntries).Get(be(uint64(n))); !bytes.Equal(got, append(row, canonical...)) {
				t.Fatalf("row %d: %x, want the hashes %x and the entry", n, got, row)
			}
			loaded, err := loadTree(size, hashReader(tx))
			for level := range loaded.edge {
				if size>>level&1 == 1 && loaded.edge[level] != l.tree.edge[level] {
					t.Fatalf("size %d: the edge at level %d differs from the one in memory", size, level)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	root, _ := tlog.TreeHash(300, &want)
	for _, seq := range []uint64{0, 1, 127, 128, 255, 256, 298, 299} {
		proof, err := l.Prove(t.Context(), seq, 300)
		if err != nil {
			t.Fatal(err)
		}
		leaf := audit.LeafHash(collect(t, l, seq, seq+1)[0].Canonical)
		if err := tlog.CheckRecord(proof, 300, root, int64(seq), leaf); err != nil {
			t.Errorf("proof of entry %d: %v", seq, err)
		}
	}
	for _, older := range []uint64{1, 2, 100, 128, 256, 299, 300} {
		proof, err := l.ProveTree(t.Context(), older, 300)
		if err != nil {
			t.Fatal(err)
		}
		olderRoot, _ := tlog.TreeHash(int64(older), &want)
		if err := tlog.CheckTree(proof, 300, root, int64(older), olderRoot); err != nil {
			t.Errorf("proof from size %d: %v", older, err)
		}
	}
}

func TestProofsOutOfRange(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	mustAppend(t, l, event(0), event(1))
	for _, at := range [][2]uint64{{0, 3}, {2, 2}, {0, 0}, {1 << 63, 2}, {0, 1 << 63}} {
		_, err := l.Prove(t.Context(), at[0], at[1])
		wantError(t, err, cred.Invalid, "OUT_OF_RANGE")
	}
	for _, at := range [][2]uint64{{0, 2}, {1, 3}, {2, 1}} {
		_, err := l.ProveTree(t.Context(), at[0], at[1])
		wantError(t, err, cred.Invalid, "OUT_OF_RANGE")
	}
}

// TestReopen goes on with a log of every small size, over several openings.
func TestReopen(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	for n := range 40 {
		l, err := Open(path, s, Options{noSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if size, _ := l.Size(); size != uint64(n) {
			t.Fatalf("size %d, want %d", size, n)
		}
		if first := mustAppend(t, l, event(n)); first != uint64(n) {
			t.Fatalf("entry %d, want %d", first, n)
		}
		verify(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEmpty: a log without entries has a checkpoint, that of RFC 6962's empty tree.
func TestEmpty(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	verify(t, l)
	if got := collect(t, l, 0, 10); len(got) != 0 {
		t.Errorf("an empty log yields %d entries", len(got))
	}
}

func TestConcurrentAppends(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	const writers, rounds = 16, 20
	var mu sync.Mutex
	at := map[uint64]int{} // seq -> event
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for r := range rounds {
				n := (w*rounds + r) * 2
				first, err := l.Append(context.Background(), event(n), event(n+1))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				at[first], at[first+1] = n, n+1
				mu.Unlock()
				_, err = l.Checkpoint(context.Background())
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	verify(t, l)
	all := collect(t, l, 0, 1<<62)
	if len(all) != writers*rounds*2 || len(at) != len(all) {
		t.Fatalf("%d entries at %d places, want %d", len(all), len(at), writers*rounds*2)
	}
	for _, e := range all {
		want, err := audit.Canonical(e.Seq, event(at[e.Seq]))
		if err != nil || !bytes.Equal(e.Canonical, want) {
			t.Errorf("entry %d is not the one that Append said: %v", e.Seq, err)
		}
	}
}

// TestSharedCommit: callers that wait together share one commit.
func TestSharedCommit(t *testing.T) {
	l, err := Open(logPath(t), newSigner(t), Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	commits := countCommits(l)
	const waiting = 50
	var wg sync.WaitGroup
	err = l.Update(t.Context(), func(*Tx) error { // while this one has its turn the others queue
		for n := range waiting {
			wg.Go(func() { mustAppend(t, l, event(n)) })
		}
		for queued := 0; queued < waiting; {
			l.group.mu.Lock()
			queued = len(l.group.queue)
			l.group.mu.Unlock()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := commits.Load(); n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	verify(t, l)
}

// TestEntriesInPages reads a log that is longer than a page, in every way of entering it.
func TestEntriesInPages(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	const n = pageEntries*2 + 10
	events := make([]audit.Event, n)
	for i := range events {
		events[i] = event(i)
	}
	mustAppend(t, l, events...)
	for _, r := range [][2]uint64{{0, n}, {0, n + 5}, {1, pageEntries}, {pageEntries, pageEntries + 1}, {pageEntries - 1, n - 1}, {5, 5}, {6, 5}, {n, n + 1}} {
		var want, got []uint64
		for seq := r[0]; seq < min(r[1], n); seq++ {
			want = append(want, seq)
		}
		for _, e := range collect(t, l, r[0], r[1]) {
			got = append(got, e.Seq)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entries %v:\n%s", r, diff)
		}
	}
	for e, err := range l.Entries(t.Context(), 0, n) { // a writer is not kept by a slow reader
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq == 3 {
			mustAppend(t, l, event(n))
			break
		}
	}
	over, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	for _, err := range l.Entries(over, 0, n) {
		if err != nil {
			wantError(t, err, cred.Unavailable, reasonDeadline)
			break
		}
		seen++
		cancel()
	}
	if seen != pageEntries {
		t.Errorf("%d entries after the context ended, want the page of %d", seen, pageEntries)
	}
}

// TestEntriesAreBounded: a page of large entries ends early, and none is lost.
func TestEntriesAreBounded(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	e := event(0)
	e.Peer = string(bytes.Repeat([]byte("x"), 60_000))
	for range 40 {
		mustAppend(t, l, e)
	}
	page, err := l.page(t.Context(), 0, 40)
	if err != nil || len(page) != pageBytes/60_000+1 {
		t.Errorf("a page of %d entries, %v", len(page), err)
	}
	if all := collect(t, l, 0, 40); len(all) != 40 {
		t.Errorf("%d entries, want 40", len(all))
	}
}

func TestCheckpointIsSignedOnce(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	mustAppend(t, l, event(0))
	a, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Checkpoint(t.Context())
	if err != nil || &a.Note[0] != &b.Note[0] {
		t.Errorf("a second signature for the same size: %v", err)
	}
	mustAppend(t, l, event(1))
	if c, err := l.Checkpoint(t.Context()); err != nil || c.Size != 2 {
		t.Errorf("size %d, %v; want 2", c.Size, err)
	}
}

// TestAppendTx: entries in somebody else's transaction, mixed with the group's.
func TestAppendTx(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	db, err := OpenFile(path, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(db, s)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			before, _ := l.Size()
			n := rapid.IntRange(0, 3).Draw(rt, "events")
			var events []audit.Event
			for i := range n {
				events = append(events, event(i))
			}
			var first uint64
			keep := rapid.Bool().Draw(rt, "keep")
			errNo := errors.New("no")
			switch rapid.SampledFrom([]string{"own", "own twice", "group", "lost"}).Draw(rt, "way") {
			case "own twice":
				n *= 2
				err = db.Update(func(tx *bbolt.Tx) error {
					if first, err = l.AppendTx(tx, events...); err != nil {
						return err
					}
					if _, err := l.AppendTx(tx, events...); err != nil {
						return err
					}
					if !keep {
						return errNo
					}
					return nil
				})
			case "own":
				err = db.Update(func(tx *bbolt.Tx) error {
					if first, err = l.AppendTx(tx, events...); err != nil || keep {
						return err
					}
					return errNo
				})
			case "group":
				err = l.Update(t.Context(), func(tx *Tx) error {
					first = tx.next
					for _, e := range events {
						if _, err := tx.Append(e); err != nil {
							return err
						}
					}
					if keep {
						return nil
					}
					return errNo
				})
			case "lost": // the commit fails
				commit := l.commit
				l.commit = func(tx *bbolt.Tx) error { return errors.Join(errNo, tx.Rollback()) }
				first, err = l.Append(t.Context(), events...)
				l.commit = commit
				keep = n == 0 // nothing to commit
			}
			if keep != (err == nil) {
				rt.Fatalf("keep %v, error %v", keep, err)
			}
			want := before
			if keep {
				want += uint64(n)
			}
			if size, _ := l.Size(); size != want || first != before {
				rt.Fatalf("size %d, first %d; want %d, %d", size, first, want, before)
			}
		}
	})
	verify(t, l)
	if err := errors.Join(l.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	openLog(t, path, s)
}

func TestAppendOfABadEvent(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	_, err := l.Append(t.Context(), event(0), audit.Event{})
	if cred.KindOf(err) != cred.Invalid {
		t.Errorf("got %v, want an Invalid error", err)
	}
	if size, _ := l.Size(); size != 0 {
		t.Errorf("%d entries of an Append that failed", size)
	}
	_ = l.db.Update(func(tx *bbolt.Tx) error {
		_, err := l.AppendTx(tx, audit.Event{})
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("AppendTx: got %v, want an Invalid error", err)
		}
		return err
	})
	mustAppend(t, l, event(0))
	verify(t, l)
}

func TestClosed(t *testing.T) {
	l, err := Open(logPath(t), newSigner(t), Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event(0))
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = l.Append(t.Context(), event(1))
	wantError(t, err, cred.Unavailable, reasonClosed)
	for _, err := range l.Entries(t.Context(), 0, 1) {
		wantError(t, err, cred.Unavailable, reasonClosed)
	}
	_, err = l.Checkpoint(t.Context())
	wantError(t, err, cred.Unavailable, reasonClosed)
	_, err = l.Prove(t.Context(), 0, 1)
	wantError(t, err, cred.Unavailable, reasonClosed)
}

// TestCloseServesWhoWaits: callers that were in the queue are served.
func TestCloseServesWhoWaits(t *testing.T) {
	l, err := Open(logPath(t), newSigner(t), Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	err = l.Update(t.Context(), func(*Tx) error {
		for n := range 10 {
			wg.Go(func() { mustAppend(t, l, event(n)) })
		}
		for queued := 0; queued < 10; {
			l.group.mu.Lock()
			queued = len(l.group.queue)
			l.group.mu.Unlock()
		}
		wg.Go(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if size, _ := l.Size(); size != 10 {
		t.Errorf("%d entries, want 10", size)
	}
}

func ExampleLog_Append() {
	signer, err := audit.GenerateSigner("daypass-proxy.example.com/audit")
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log, err := Open(dir+"/audit.db", signer, Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = log.Close() }()
	seq, err := log.Append(context.Background(), event(1), event(2))
	fmt.Println(seq, err)
	c, err := log.Checkpoint(context.Background())
	fmt.Println(c.Origin, c.Size, err)
	// Output:
	// 0 <nil>
	// daypass-proxy.example.com/audit 2 <nil>
}

// An event that is too long only where it comes to stand fails alone, with all of its own Append.
func TestAppendTooLongForItsPlace(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	long := event(1)
	bare, err := audit.Canonical(0, long)
	if err != nil {
		t.Fatal(err)
	}
	long.Peer = strings.Repeat("x", audit.MaxEntry-len(bare)-len(`,"peer":""`))
	for n := range 8 {
		mustAppend(t, l, event(n))
	}
	if _, err := l.Append(t.Context(), event(8), event(9), long); cred.KindOf(err) != cred.Invalid {
		t.Errorf("got %v", err)
	}
	if first := mustAppend(t, l, event(8)); first != 8 {
		t.Errorf("what is refused takes place %d", first)
	}
	if first := mustAppend(t, l, long); first != 9 {
		t.Errorf("what fits is at %d", first)
	}
	verify(t, l)
}

// Appends and Updates that share commits each get their own places, in one unbroken log.
func TestAppendsBesideUpdates(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	const writers, each = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				e := event(w*each + n)
				var at uint64
				var err error
				if w%2 == 0 {
					at, err = l.Append(context.Background(), e)
				} else {
					err = l.Update(context.Background(), func(tx *Tx) (err error) { at, err = tx.Append(e); return err })
				}
				if err != nil {
					t.Error(err)
					return
				}
				want, err := audit.Canonical(at, e)
				if got := collect(t, l, at, at+1); err != nil || len(got) != 1 || !bytes.Equal(got[0].Canonical, want) {
					t.Errorf("at %d stands something else", at)
				}
			}
		})
	}
	wg.Wait()
	if size, _ := l.Size(); size != writers*each {
		t.Errorf("%d entries", size)
	}
	verify(t, l)
}
