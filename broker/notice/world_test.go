package notice

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// grantID has the form of a grant's ID.
const grantID cred.GrantID = "gr_01hzx3v9k2m4n6p8q0r2s4t6v8"

// noon is when things happen.
var noon = time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC)

func pending() Notice {
	return Notice{
		ID: "nt_1", Kind: RequestPending, At: noon, Grant: grantID, Requester: "Grace", Actor: "build-agent",
		Target: "orders-db", Scopes: []string{"read", "write"}, Reason: "fix order 4711", Rule: "deploys",
		Digest: string(bytes.Repeat([]byte("ab"), 32)), Deadline: noon.Add(time.Hour), Groups: []string{"leads", "security"},
		Text: "One of leads and one of security must agree.",
	}
}

// output collects what a logger writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// disk is a store's file, which outlives the stores that are opened over it.
type disk struct {
	t      testing.TB
	path   string
	signer *audit.Signer
	store  *bolt.Store
	log    *output
}

func newDisk(t testing.TB) *disk {
	t.Helper()
	signer, err := audit.GenerateSigner("daypass.example.com/test")
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, path: filepath.Join(t.TempDir(), "store.db"), signer: signer, log: &output{}}
	d.open()
	return d
}

func (d *disk) open() {
	d.t.Helper()
	var err error
	if d.store, err = bolt.Open(d.path, d.signer, bolt.Options{}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) close() {
	d.t.Helper()
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
}

func (d *disk) logger() *slog.Logger { return slog.New(slog.NewTextHandler(d.log, nil)) }

func (d *disk) update(fn func(store.Tx) error) {
	d.t.Helper()
	if err := d.store.Update(context.Background(), fn); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) enqueue(n Notice, channels ...string) {
	d.t.Helper()
	d.update(func(tx store.Tx) error { return Enqueue(tx, channels, n) })
}

// queue returns the records that wait.
func (d *disk) queue() []store.Record {
	d.t.Helper()
	var all []store.Record
	err := d.store.View(context.Background(), func(tx store.Tx) error {
		all = nil
		for r, err := range tx.Scan(store.Query{Table: store.Notices}) {
			if err != nil {
				return err
			}
			r.Value = bytes.Clone(r.Value)
			all = append(all, r)
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// logged returns the audit log.
func (d *disk) logged() []audit.Event {
	d.t.Helper()
	size, err := d.store.Log().Size()
	if err != nil {
		d.t.Fatal(err)
	}
	var all []audit.Event
	for x, err := range d.store.Log().Entries(context.Background(), 0, size) {
		if err != nil {
			d.t.Fatal(err)
		}
		_, e, err := audit.Parse(x.Canonical)
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// faults are what can go wrong once, in order; after the last all works.
type fault int

const (
	works    fault = iota
	notDone        // it did not happen
	doneLost       // it happened, and the answer was lost
)

// faultyStore is a store whose Updates fail as planned.
type faultyStore struct {
	store.Store
	mu   sync.Mutex
	next []fault // guarded by mu
}

func (s *faultyStore) plan(faults ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, faults...)
}

func (s *faultyStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.Lock()
	f := works
	if len(s.next) > 0 {
		f, s.next = s.next[0], s.next[1:]
	}
	s.mu.Unlock()
	if f == notDone {
		return errDisk
	}
	err := s.Store.Update(ctx, fn)
	if err == nil && f == doneLost {
		return errDisk
	}
	return err
}

var errDisk = &cred.Error{Kind: cred.Unavailable, Op: "store.update", Public: "the store is not well", Err: errors.New("the fake disk is full")}

// sink is a Sender that keeps what it gets, and fails as told.
type sink struct {
	mu   sync.Mutex
	got  []Notice              // guarded by mu
	at   []time.Time           // when; guarded by mu
	does func(try int) error   // what the nth call returns, from 1; nil: nil
	hold func(context.Context) // what each call waits for; nil: nothing
}

func (s *sink) Send(ctx context.Context, n Notice) error {
	s.mu.Lock()
	s.got, s.at = append(s.got, n), append(s.at, time.Now())
	try := len(s.got)
	s.mu.Unlock()
	if s.hold != nil {
		s.hold(ctx)
	}
	if s.does != nil {
		return s.does(try)
	}
	return nil
}

func (s *sink) notices() []Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Notice(nil), s.got...)
}

func (s *sink) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.at...)
}
