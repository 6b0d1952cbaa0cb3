package notice

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

var errDown = &cred.Error{Kind: cred.Unavailable, Op: "notice.test", Reason: "RECEIVER_UNREACHABLE", Public: "the receiver is down", Err: errors.New("private words")}

// slow is the wait between looks in tests of whole days.
const slow = 10 * time.Second

// hall is a dispatcher over a store, in fake time.
type hall struct {
	*disk
	store  *faultyStore
	cancel context.CancelFunc
	done   chan error
	pace   time.Duration
	*Dispatcher
}

// inTime runs fn in fake time with a dispatcher over senders.
func inTime(t *testing.T, senders map[string]Sender, fn func(h *hall)) {
	inSlowTime(t, look, senders, fn)
}

// inSlowTime is inTime with another wait between looks, for tests of whole days.
func inSlowTime(t *testing.T, pace time.Duration, senders map[string]Sender, fn func(h *hall)) {
	synctest.Test(t, func(t *testing.T) {
		h := &hall{disk: newDisk(t), pace: pace}
		h.begin(senders)
		fn(h)
		h.end()
		h.close()
	})
}

func (h *hall) begin(senders map[string]Sender) {
	ctx, cancel := context.WithCancel(context.Background())
	h.store, h.cancel, h.done = &faultyStore{Store: h.disk.store}, cancel, make(chan error, 1)
	h.Dispatcher = NewDispatcher(h.store, senders, h.logger(), time.Now)
	h.look = h.pace
	run, done := h.Run, h.done
	go func() { done <- run(ctx) }()
}

func (h *hall) end() {
	h.t.Helper()
	h.cancel()
	if err := <-h.done; err != nil {
		h.t.Errorf("Run returned %v", err)
	}
}

func (h *hall) Notice() Notice {
	n := pending()
	n.At = time.Now()
	return n
}

// kinds returns the kinds of the audit log.
func (h *hall) kinds() (all []audit.Kind) {
	for _, e := range h.logged() {
		all = append(all, e.Kind)
	}
	return all
}

func (h *hall) wantKinds(want ...audit.Kind) {
	h.t.Helper()
	if got := h.kinds(); !slices.Equal(got, want) {
		h.t.Errorf("the log has %v, want %v", got, want)
	}
}

func (h *hall) wantQueue(n int) {
	h.t.Helper()
	if got := len(h.queue()); got != n {
		h.t.Errorf("%d notices wait, want %d", got, n)
	}
}

func TestSent(t *testing.T) {
	a, b, none := &sink{}, &sink{}, &sink{}
	inTime(t, map[string]Sender{"a": a, "b": b, "none": none}, func(h *hall) {
		n := h.Notice()
		h.enqueue(n, "a", "b")
		time.Sleep(2 * time.Second)
		h.wantQueue(0)
		h.wantKinds(audit.NoticeSent, audit.NoticeSent)
		e := h.logged()[0]
		want := map[string]any{"notice": "nt_1", "kind": "request.pending", "attempts": 1.0}
		channel, _ := e.Detail["channel"].(string)
		delete(e.Detail, "channel")
		if !maps.Equal(e.Detail, want) || e.Grant != grantID || channel != "a" && channel != "b" || e.Time.IsZero() {
			t.Errorf("entry %+v", e)
		}
		time.Sleep(30 * time.Minute)
	})
	if len(a.notices()) != 1 || len(b.notices()) != 1 || len(none.notices()) != 0 {
		t.Errorf("sent %d, %d and %d times", len(a.notices()), len(b.notices()), len(none.notices()))
	}
}

func TestWake(t *testing.T) {
	a := &sink{}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		time.Sleep(1500 * time.Millisecond)
		h.enqueue(h.Notice(), "a")
		asked := time.Now()
		h.Wake()
		synctest.Wait()
		time.Sleep(time.Millisecond)
		if at := a.times(); len(at) != 1 || at[0].Sub(asked) > time.Millisecond {
			t.Errorf("sent at %v, woken at %v", at, asked)
		}
	})
}

// A notice that fails is tried again after twice as long each time, with the same ID, and given up
// after 24 hours.
func TestBackoffAndGivingUp(t *testing.T) {
	a := &sink{does: func(int) error { return errDown }}
	inSlowTime(t, slow, map[string]Sender{"a": a}, func(h *hall) {
		h.enqueue(h.Notice(), "a")
		time.Sleep(23*time.Hour + 50*time.Minute)
		h.wantKinds()
		h.wantQueue(1)
		time.Sleep(15 * time.Minute)
		h.wantKinds(audit.NoticeFailed)
		h.wantQueue(0)
		e := h.logged()[0]
		if e.Error == nil || e.Error.Public != "the receiver is down" || e.Error.Reason != "RECEIVER_UNREACHABLE" || e.Detail["attempts"] != float64(len(a.notices())) {
			t.Errorf("entry %+v, error %+v", e, e.Error)
		}
		tries := len(a.notices())
		time.Sleep(30 * time.Minute)
		if len(a.notices()) != tries {
			t.Error("it was tried again after it was given up")
		}
	})
	at := a.times()
	if len(at) < 27 || len(at) > 45 {
		t.Errorf("%d tries in 24 hours", len(at))
	}
	for i := 1; i < len(at); i++ {
		wait, want := at[i].Sub(at[i-1]), min(firstWait<<(min(i, 10)-1), longest)
		if last := i == len(at)-1; wait > want*6/5+2*slow || !last && wait < want*4/5 {
			t.Errorf("the wait before try %d is %v, want about %v", i+1, wait, want)
		}
	}
	if total := at[len(at)-1].Sub(at[0]); total < patience || total > patience+2*slow {
		t.Errorf("the last try came after %v", total)
	}
	for _, n := range a.notices() {
		if n.ID != "nt_1" {
			t.Errorf("a try has the ID %q", n.ID)
		}
	}
}

func TestJitter(t *testing.T) {
	first := map[time.Duration]bool{}
	for range 50 {
		next := nextTry(queued{Attempts: 4, GiveUp: noon.Add(patience)}, noon)
		wait := next.Sub(noon)
		if wait < 4*firstWait*8/5 || wait > 4*firstWait*12/5 {
			t.Fatalf("wait %v", wait)
		}
		first[wait] = true
	}
	if len(first) < 40 {
		t.Errorf("50 notices have %d different waits", len(first))
	}
	for range 50 {
		if next := nextTry(queued{Attempts: 1, GiveUp: noon.Add(patience)}, noon); next.Sub(noon) <= sendWithin {
			t.Fatalf("the second try may begin %v after the first, while that still runs", next.Sub(noon))
		}
	}
}

func TestRecovers(t *testing.T) {
	a := &sink{does: func(try int) error {
		if try < 3 {
			return errDown
		}
		return nil
	}}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		h.enqueue(h.Notice(), "a")
		time.Sleep(3 * time.Minute)
		h.wantKinds(audit.NoticeSent)
		h.wantQueue(0)
		if got := h.logged()[0].Detail["attempts"]; got != 3.0 {
			t.Errorf("attempts %v", got)
		}
	})
	if strings.Contains(fmt.Sprint(a.notices()), "private words") {
		t.Error("the error went into the notice")
	}
}

// What no further try can help is given up at once; what reached some is not sent again.
func TestFinalErrors(t *testing.T) {
	gone := &cred.Error{Kind: cred.Invalid, Op: "notice.test", Public: "gone"}
	for _, c := range []struct {
		err    error
		want   audit.Kind
		missed any
	}{
		{gone, audit.NoticeFailed, nil},
		{fmt.Errorf("wrapped: %w", gone), audit.NoticeFailed, nil},
		{&PartialError{Missed: []string{"ada@example.com"}, Err: errDown}, audit.NoticeSent, "[ada@example.com]"},
	} {
		a := &sink{does: func(int) error { return c.err }}
		inTime(t, map[string]Sender{"a": a}, func(h *hall) {
			h.enqueue(h.Notice(), "a")
			time.Sleep(2 * time.Second)
			h.wantKinds(c.want)
			h.wantQueue(0)
			if missed := h.logged()[0].Detail["missed"]; c.missed != nil && fmt.Sprint(missed) != c.missed {
				t.Errorf("missed %v, want %v", missed, c.missed)
			}
			time.Sleep(30 * time.Minute)
		})
		if len(a.notices()) != 1 {
			t.Errorf("%v: %d tries", c.err, len(a.notices()))
		}
	}
}

// A receiver that asks for a pause gets no notice at all in it, and a pause has an end.
func TestRetryAfter(t *testing.T) {
	a := &sink{does: func(try int) error {
		if try == 1 {
			return &busy{errDown, 20 * time.Minute}
		}
		return nil
	}}
	forever := &sink{does: func(int) error { return &busy{errDown, 999 * time.Hour} }}
	inTime(t, map[string]Sender{"a": a, "forever": forever}, func(h *hall) {
		h.enqueue(h.Notice(), "a", "forever")
		time.Sleep(10 * time.Second)
		other := h.Notice()
		other.ID = "nt_2"
		h.enqueue(other, "a")
		time.Sleep(19 * time.Minute)
		if got := len(a.notices()); got != 1 {
			t.Errorf("%d tries within the pause", got)
		}
		time.Sleep(2 * time.Minute)
		h.wantKinds(audit.NoticeSent, audit.NoticeSent)
		time.Sleep(2 * time.Hour)
		if got := len(forever.notices()); got < 2 {
			t.Errorf("a receiver that asks for weeks was tried %d times", got)
		}
	})
}

// A channel that hangs holds up no other, and its tries end.
func TestChannelsAreApart(t *testing.T) {
	hung := &sink{does: func(int) error { return errDown }, hold: func(ctx context.Context) { <-ctx.Done() }}
	well := &sink{}
	inTime(t, map[string]Sender{"hung": hung, "well": well}, func(h *hall) {
		for i := range 300 {
			n := h.Notice()
			n.ID = fmt.Sprintf("nt_%d", i)
			h.enqueue(n, "hung", "well")
		}
		time.Sleep(3 * time.Second)
		if got := len(well.notices()); got != 300 {
			t.Errorf("%d of 300 notices were sent beside a channel that hangs", got)
		}
		if got := len(hung.notices()); got != atOnce {
			t.Errorf("%d tries at once", got)
		}
		time.Sleep(sendWithin)
		if got := len(hung.notices()); got != 2*atOnce {
			t.Errorf("%d tries after the first %d ended", got, atOnce)
		}
	})
}

// A try that hangs holds up its own notice and none that comes after it on the same channel.
func TestTriesAreApart(t *testing.T) {
	var ends chan struct{} // made in the test's own fake time
	a := &sink{}
	a.does = func(try int) error {
		if try == 1 {
			<-ends
			return errDown
		}
		return nil
	}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		ends = make(chan struct{})
		h.enqueue(h.Notice(), "a")
		time.Sleep(2 * time.Second)
		for i := range 2 * page {
			n := h.Notice()
			n.ID = fmt.Sprintf("nt_later_%d", i)
			h.enqueue(n, "a")
		}
		time.Sleep(3 * time.Second)
		if got := len(a.notices()); got != 1+2*page {
			t.Errorf("%d tries while the first one hangs, want all %d", got, 1+2*page)
		}
		h.wantQueue(1)
		close(ends)
	})
}

// A process that is killed at any moment leaves a queue from which the next one goes on: nothing is
// lost, and what may have been sent is sent again under the same ID.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name  string
		plan  []fault // of the store, until it is killed: claim, end
		sent  int     // by then
		after int     // sent in all, in the end
	}{
		{"before the claim", []fault{notDone, notDone, notDone, notDone, notDone}, 0, 1},
		{"after the claim, before the try", []fault{doneLost}, 0, 1},
		{"after the try, before its outcome is written", []fault{works, notDone}, 1, 2},
		{"after its outcome is written", []fault{works, doneLost}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &sink{}
			inTime(t, map[string]Sender{"a": a}, func(h *hall) {
				h.store.plan(c.plan...)
				h.enqueue(h.Notice(), "a")
				time.Sleep(2 * time.Second)
				if got := len(a.notices()); got != c.sent {
					t.Errorf("sent %d times before the crash, want %d", got, c.sent)
				}
				h.end()
				h.close()
				h.open()
				h.begin(map[string]Sender{"a": a})
				time.Sleep(2 * time.Minute)
				h.wantKinds(audit.NoticeSent)
				h.wantQueue(0)
			})
			if got := a.notices(); len(got) != c.after || got[0].ID != "nt_1" || got[len(got)-1].ID != "nt_1" {
				t.Errorf("sent %d times, want %d: %v", len(got), c.after, got)
			}
		})
	}
}

// A broker that stops in the middle of a try leaves the notice in the queue.
func TestStopInATry(t *testing.T) {
	a := &sink{does: func(try int) error {
		if try == 1 {
			return errDown
		}
		return nil
	}, hold: func(ctx context.Context) { <-ctx.Done() }}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		h.enqueue(h.Notice(), "a")
		time.Sleep(2 * time.Second)
		h.end()
		h.wantKinds()
		h.wantQueue(1)
		if strings.Contains(h.disk.log.String(), "could not be sent") {
			t.Errorf("the stop is told as a failure of the receiver: %s", h.disk.log)
		}
		h.begin(map[string]Sender{"a": &sink{}})
		time.Sleep(2 * time.Minute)
		h.wantKinds(audit.NoticeSent)
	})
}

// Two brokers over one store send each notice once.
func TestTwoBrokers(t *testing.T) {
	a := &sink{}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		other := NewDispatcher(h.disk.store, map[string]Sender{"a": a}, h.logger(), time.Now)
		go func() { done <- other.Run(ctx) }()
		for i := range 100 {
			n := h.Notice()
			n.ID = fmt.Sprintf("nt_%d", i)
			h.enqueue(n, "a")
		}
		time.Sleep(5 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		h.wantQueue(0)
		if got := len(h.logged()); got != 100 {
			t.Errorf("%d entries", got)
		}
	})
	if got := len(a.notices()); got != 100 {
		t.Errorf("100 notices were sent %d times", got)
	}
}

// What waits for a channel that is configured no longer is given up when its time is over, and so is
// a record that can't be read.
func TestOrphans(t *testing.T) {
	inSlowTime(t, slow, map[string]Sender{"a": &sink{}}, func(h *hall) {
		h.enqueue(h.Notice(), "gone")
		h.update(func(tx store.Tx) error {
			return tx.Put(store.Record{Key: store.Key{Table: store.Notices, ID: "a/nt_9"}, Due: time.Now(), Value: []byte("{")})
		})
		time.Sleep(23 * time.Hour)
		h.wantKinds(audit.NoticeFailed)
		if e := h.logged()[0]; e.Detail["notice"] != "nt_9" || e.Detail["channel"] != "a" {
			t.Errorf("entry %+v", e)
		}
		h.wantQueue(1)
		time.Sleep(70 * time.Minute)
		h.wantKinds(audit.NoticeFailed, audit.NoticeFailed)
		if e := h.logged()[1]; e.Error == nil || e.Error.Reason != "CHANNEL_GONE" || e.Detail["channel"] != "gone" {
			t.Errorf("entry %+v", e)
		}
		h.wantQueue(0)
	})
}

// Of two brokers that have sent the same notice, because one took longer than the other waited, one
// tells.
func TestToldOnce(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	d.enqueue(pending(), "a")
	dispatcher := NewDispatcher(d.store, nil, d.logger(), time.Now)
	key := d.queue()[0].Key
	for range 2 {
		if err := dispatcher.end(context.Background(), key, sentEvent(queued{Channel: "a", Notice: pending()}, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.logged(); len(got) != 1 || len(d.queue()) != 0 {
		t.Errorf("%d entries, %d notices wait", len(got), len(d.queue()))
	}
}

// A broker that was down for days tries once all the same.
func TestLongDowntime(t *testing.T) {
	a := &sink{}
	inTime(t, map[string]Sender{"a": a}, func(h *hall) {
		h.end()
		n := h.Notice()
		h.enqueue(n, "a")
		time.Sleep(72 * time.Hour)
		h.begin(map[string]Sender{"a": a})
		time.Sleep(2 * time.Second)
		h.wantKinds(audit.NoticeSent)
	})
}
