package broker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// watcher writes down what a watch says.
type watcher struct {
	said []string
	ends map[cred.GrantID]time.Time
}

func (x *watcher) send(r Revocation) error {
	x.said = append(x.said, string(r.Grant))
	x.ends[r.Grant] = r.NotAfter
	return nil
}

func TestWatchRevocations(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		revoke := func(id cred.GrantID) {
			_, _, err := w.Revoke(t.Context(), runner, id, "")
			w.must(err)
		}
		past, _ := w.grant("db")
		live, _ := w.grant("db")
		during, _ := w.grant("db")
		kept, _ := w.grant("db")
		revoke(past.ID)

		x := &watcher{ends: map[cred.GrantID]time.Time{}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			current := func() error {
				x.said = append(x.said, "current")
				revoke(during.ID) // in the middle: after what is past, before what comes
				return nil
			}
			beat := func() error { x.said = append(x.said, "beat"); return nil }
			done <- w.WatchRevocations(ctx, time.Second, x.send, current, beat)
		}()
		synctest.Wait()
		revoke(live.ID)
		revoke(live.ID) // no news
		synctest.Wait()
		time.Sleep(2500 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
		want := []string{string(past.ID), "current", string(during.ID), string(live.ID), "beat", "beat"}
		if !slices.Equal(x.said, want) {
			t.Errorf("the watch said %v, want %v", x.said, want)
		}
		if !x.ends[live.ID].Equal(live.NotAfter) || !x.ends[past.ID].Equal(past.NotAfter) {
			t.Errorf("ends %v", x.ends)
		}
		if _, told := x.ends[kept.ID]; told || len(w.watchers.all) != 0 {
			t.Error("a grant that lives was told, or the watcher stayed")
		}
		w.check()
		w.close()
	})
}

// A revocation that comes between the look at the past and the first live one is not missed.
func TestWatchMissesNothing(t *testing.T) {
	w := newWorld(t)
	g, _ := w.grant("db")
	w.store.viewed = func() {
		w.store.viewed = nil
		_, _, err := w.Revoke(context.Background(), runner, g.ID, "")
		w.must(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // it fails by that alone
	defer cancel()
	told := false
	send := func(r Revocation) error {
		told = r.Grant == g.ID
		cancel()
		return nil
	}
	nothing := func() error { return nil }
	w.must(w.WatchRevocations(ctx, time.Hour, send, nothing, nothing))
	if !told {
		t.Error("the revocation was missed")
	}
}

// A revocation whose write's answer is lost is told all the same.
func TestWatchWhenTheAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	g, _ := w.grant("db")
	ch, leave := w.watchers.join()
	defer leave()
	w.store.plan(doneLost)
	_, _, err := w.Revoke(t.Context(), runner, g.ID, "")
	refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
	select {
	case r := <-ch:
		if r.Grant != g.ID || !r.NotAfter.Equal(g.NotAfter) {
			t.Errorf("told %+v", r)
		}
	default:
		t.Error("not told")
	}
}

// A watcher that falls behind is cut off; the others go on.
func TestSlowWatcher(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		released := make(chan struct{})
		fast := 0
		ctx, cancel := context.WithCancel(t.Context())
		slowDone, fastDone := make(chan error), make(chan error)
		nothing := func() error { return nil }
		go func() {
			slowDone <- w.WatchRevocations(ctx, time.Second, func(Revocation) error { <-released; return nil }, nothing, nothing)
		}()
		go func() {
			fastDone <- w.WatchRevocations(ctx, time.Second, func(Revocation) error { fast++; return nil }, nothing, nothing)
		}()
		synctest.Wait()
		for range watcherBuffer + 2 {
			w.watchers.notify(Revocation{Grant: "gr"})
			synctest.Wait()
		}
		close(released)
		refusedAs(t, <-slowDone, cred.Unavailable, "WATCHER_TOO_SLOW")
		cancel()
		if err := <-fastDone; err != nil || fast != watcherBuffer+2 {
			t.Errorf("the fast one got %d, %v", fast, err)
		}
		w.close()
	})
}

// Each of the three calls can end the watch.
func TestWatchEndsWithItsCaller(t *testing.T) {
	gone := errors.New("the caller is gone")
	fails := func() error { return gone }
	works := func() error { return nil }
	for name, test := range map[string]struct {
		send          error
		current, beat func() error
	}{
		"send": {gone, works, works}, "current": {nil, fails, works}, "beat": {nil, works, fails},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := buildWorld(t, dir, time.Now)
				g, _ := w.grant("db")
				_, _, err := w.Revoke(t.Context(), runner, g.ID, "")
				w.must(err)
				err = w.WatchRevocations(t.Context(), time.Second, func(Revocation) error { return test.send }, test.current, test.beat)
				if !errors.Is(err, gone) {
					t.Errorf("got %v", err)
				}
				w.close()
			})
		})
	}
}
