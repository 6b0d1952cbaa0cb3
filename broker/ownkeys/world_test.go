package ownkeys

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leaps is a clock that goes on by a day whenever somebody looks, so that no act waits for long.
type leaps struct {
	mu sync.Mutex
	at time.Time
	by time.Duration
}

func newLeaps() *leaps {
	return &leaps{at: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), by: 24 * time.Hour}
}

func (l *leaps) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(l.by)
	return l.at
}

// world is a sealed store in files.
type world struct {
	t       testing.TB
	dir     string
	keyFile string
	signer  *audit.Signer
	disk    *bolt.Store
	sealing *store.SealingKey
	sealed  store.Store
	clock   *leaps
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir, keyFile: filepath.Join(dir, "sealing.key"), clock: newLeaps()}
	var err error
	w.sealing, err = store.WriteSealingKey(w.keyFile)
	w.must(err)
	w.signer, err = audit.GenerateSigner("daypass.example.com/test")
	w.must(err)
	w.disk, err = bolt.Open(filepath.Join(dir, "store.db"), w.signer, bolt.Options{})
	w.must(err)
	t.Cleanup(func() { _ = w.disk.Close() })
	w.sealed = store.Sealed(w.disk, w.sealing)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// events returns the entries of a kind in the store's log.
func (w *world) events(kind audit.Kind) []audit.Event {
	w.t.Helper()
	var all []audit.Event
	for x, err := range w.disk.Log().Entries(context.Background(), 0, 1<<62) {
		w.must(err)
		_, e, err := audit.Parse(x.Canonical)
		w.must(err)
		if e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

var errBroken = &cred.Error{Kind: cred.Unavailable, Op: "test", Public: "the store is broken"}

// faulty is a store whose nth call from now on fails: before anything is done, or after all is.
type faulty struct {
	store.Store
	mu    sync.Mutex
	left  int // calls until one fails; below one: none does
	after bool
}

func (f *faulty) breakAt(n int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.after = n, after
}

// came reports whether the fault came, and mends the store.
func (f *faulty) came() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	came := f.left <= 0
	f.left = 0
	return came
}

func (f *faulty) now() (broken, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	return f.left == 0, f.after
}

func (f *faulty) through(do func() error) error {
	broken, after := f.now()
	if !broken {
		return do()
	}
	if after {
		return errors.Join(errBroken, do())
	}
	return errBroken
}

func (f *faulty) View(ctx context.Context, fn func(store.Tx) error) error {
	return f.through(func() error { return f.Store.View(ctx, fn) })
}

func (f *faulty) Update(ctx context.Context, fn func(store.Tx) error) error {
	return f.through(func() error { return f.Store.Update(ctx, fn) })
}

// runAll does some of the acts in any order, and checks with the one that has no name after each. It does
// fewer than rapid.Repeat would: each of them waits for the disk.
func runAll(rt *rapid.T, do map[string]func(*rapid.T)) {
	names := slices.Sorted(maps.Keys(do))[1:]
	for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 10).Draw(rt, "acts") {
		do[name](rt)
		do[""](rt)
	}
}

// rotation drives a rotator as the broker does.
type rotation struct {
	t testing.TB
	x func() issuer.Rotator // a process of its own for each call
	r issuer.Rotation
}

var actNames = []string{"check", "prepare", "switch", "verify", "retire"}

// act does one act once.
func (d *rotation) act(name string, attempt int) error {
	r := d.r
	r.Attempt, r.Began = attempt, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	x, ctx := d.x(), context.Background()
	var err error
	switch name {
	case "check":
		_, err = x.Check(ctx, r)
	case "prepare":
		r, err = x.Prepare(ctx, r)
	case "switch":
		r, err = x.Switch(ctx, r)
	case "verify":
		err = x.Verify(ctx, r)
	case "retire":
		r, err = x.Retire(ctx, r)
	case "undo":
		err = x.Undo(ctx, r)
	}
	if err == nil {
		d.r = r
	}
	return err
}

// done does acts, each until it has an answer.
func (d *rotation) done(names ...string) {
	d.t.Helper()
	for _, name := range names {
		for attempt := 1; ; attempt++ {
			err := d.act(name, attempt)
			if err == nil {
				break
			}
			if k := cred.KindOf(err); k != cred.Unavailable && k != cred.Pending || attempt > 100 {
				d.t.Fatalf("%s, attempt %d: %v", name, attempt, err)
			}
		}
	}
}
