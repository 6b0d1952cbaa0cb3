package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Faults of a root alone.
const (
	waits        fault = 100 + iota // the act waits for a person
	waitsForTime                    // the act waits for time alone
	kills                           // the act ends the broker, and is not done
)

// fakeRoot is a root credential at a source: two keys, of which one is in use. It outlives the brokers.
type fakeRoot struct {
	mu      sync.Mutex
	process func() *process // of the broker that calls; nil: none dies

	single  bool // the source has one root at a time: a switch ends the old one
	broken  bool // the new root does not work
	forbids bool // the check has a finding that forbids it
	keep    time.Duration
	now     func() time.Time

	inUse    string // "old" or "new"
	old, new bool   // whether each is there
	verified bool   // Verify has succeeded since the last switch
	next     map[string][]fault
	calls    []string
	acting   int
	wrong    []string // what went wrong
}

func newFakeRoot() *fakeRoot {
	return &fakeRoot{inUse: "old", old: true, next: map[string][]fault{}}
}

// lost reports whether neither root works.
func (f *fakeRoot) lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.old && (!f.new || f.broken)
}

// use is what an issuer does with the root that is in use.
func (f *fakeRoot) works() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inUse == "old" && f.old || f.inUse == "new" && f.new && !f.broken
}

func (f *fakeRoot) plan(act string, faults ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next[act] = append(f.next[act], faults...)
}

func (f *fakeRoot) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeRoot) count(act string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c == act {
			n++
		}
	}
	return n
}

func (f *fakeRoot) countAll() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (f *fakeRoot) step(name string) {
	if f.process != nil {
		f.process().step(name)
	}
}

// act does one act with the fault that is planned for it.
func (f *fakeRoot) act(ctx context.Context, name string, r issuer.Rotation, do func() error) error {
	f.step(name)
	f.mu.Lock()
	f.calls = append(f.calls, name)
	if f.acting++; f.acting > 1 {
		f.wrong = append(f.wrong, "two acts at once: "+name)
	}
	if r.Attempt < 1 || r.Began.IsZero() || r.ID == "" {
		f.wrong = append(f.wrong, name+" was not told of its rotation")
	}
	fail := works
	if len(f.next[name]) > 0 {
		fail, f.next[name] = f.next[name][0], f.next[name][1:]
	}
	var err error
	if fail == works || fail == doneLost || fail == doneOddly {
		err = do()
	}
	f.acting--
	f.mu.Unlock()
	if fail == kills {
		f.process().left.Store(0)
	}
	f.step(name + " done")
	if fail == hangs {
		<-ctx.Done()
		return cred.Errorf(cred.Unavailable, "fake."+name, "the source does not answer", "%w", ctx.Err())
	}
	switch {
	case err != nil:
		return err
	case fail == notDone, fail == doneLost:
		return cred.Errorf(cred.Unavailable, "fake."+name, "the source does not answer", "no route")
	case fail == doneOddly:
		return context.DeadlineExceeded
	case fail == refusedOff:
		return cred.Errorf(cred.Denied, "fake."+name, "the source refuses", "no")
	case fail == waits:
		return &cred.Error{Kind: cred.Pending, Op: "fake." + name, Reason: issuer.ReasonPersonNeeded, Public: "upload the key"}
	case fail == waitsForTime:
		return cred.Errorf(cred.Pending, "fake."+name, "the source takes it into use in a minute", "waits")
	}
	return nil
}

func (f *fakeRoot) Check(ctx context.Context, r issuer.Rotation) (findings []cred.Finding, err error) {
	err = f.act(ctx, "check", r, func() error {
		findings = []cred.Finding{{Name: "one access key", OK: !f.forbids, Text: "looked"}}
		return nil
	})
	return findings, err
}

func (f *fakeRoot) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	err := f.act(ctx, "prepare", r, func() error {
		f.new = true
		return nil
	})
	r.Old, r.New = "key-1", "key-2"
	r.Notes = map[string]cred.Secret{"password": cred.SecretString("n0te-of-" + r.ID)}
	return r, err
}

func (f *fakeRoot) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	err := f.act(ctx, "switch", r, func() error {
		if r.Notes["password"].RevealString() != "n0te-of-"+r.ID || r.New != "key-2" {
			f.wrong = append(f.wrong, "the notes of Prepare are lost")
		}
		f.inUse, f.verified = "new", false
		if f.single {
			f.old = false
		}
		return nil
	})
	if f.keep > 0 {
		r.RetireAfter = f.now().Add(f.keep)
	}
	return r, err
}

func (f *fakeRoot) Verify(ctx context.Context, r issuer.Rotation) error {
	return f.act(ctx, "verify", r, func() error {
		if f.inUse != "new" || !f.new || f.broken {
			return cred.Errorf(cred.Denied, "fake.verify", "the new root does not work", "no login")
		}
		f.verified = true
		return nil
	})
}

func (f *fakeRoot) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	return r, f.act(ctx, "retire", r, func() error {
		if !f.verified || f.inUse != "new" {
			f.wrong = append(f.wrong, "the old root was retired before the new one was proven")
		}
		if f.keep > 0 && f.now().Before(r.RetireAfter) {
			f.wrong = append(f.wrong, "the old root was retired too early")
		}
		f.old = false
		return nil
	})
}

func (f *fakeRoot) Undo(ctx context.Context, r issuer.Rotation) error {
	return f.act(ctx, "undo", r, func() error {
		if !f.old {
			return cred.Errorf(cred.Invalid, "fake.undo", "the old root is no more", "gone")
		}
		f.inUse, f.new = "old", false
		return nil
	})
}

// mistakes returns what went wrong so far.
func (f *fakeRoot) mistakes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.wrong)
}

// duringIssue is called once a source has minted.
func duringIssue(do func()) func(issuer.Spec, bool) {
	return func(_ issuer.Spec, minted bool) {
		if minted {
			do()
		}
	}
}

// only returns the one rotation that there is.
func (r *rotating) only() cred.Rotation {
	r.t.Helper()
	all, err := r.ListRotations(context.Background(), auditor, 0)
	r.must(err)
	if len(all) != 1 {
		r.t.Fatalf("%d rotations", len(all))
	}
	return all[0]
}
