package broker

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// fault is what a step does in place of what it should.
type fault int

const (
	works      fault = iota
	notDone          // it did not happen, and the error says so
	refusedOff       // it did not happen: an error of another kind than Unavailable
	doneLost         // it happened, and the answer was lost
	doneOddly        // it happened, and the error is not of the contract's type
	hangs            // it happens once the caller's time is over
	givenUp          // Revoke: the source has given up on it, and the credential lives on whatever its end was
)

// source is where fake credentials live, with what its issuers do wrong. It outlives the brokers.
type source struct {
	now func() time.Time

	endless   bool // its credentials have no end of their own
	stands    bool // they can't be ended early: Issue says so
	unsure    bool // a reservation alone can't tell whether they can: Revoke answers Invalid
	terse     bool // Issue does not repeat the handle that was reserved
	lifeAfter time.Duration
	short     time.Duration // they live so long at the most, unless they are renewed; zero: as long as asked
	longest   time.Duration // since they were made, renewed or not; zero: no bound

	mu       sync.Mutex
	made     map[string]minted // by handle; guarded by mu, as is all below
	reserved map[string]bool   // false: revoked, nothing is minted under it any more
	secrets  []string          // every secret and handle that ever was
	calls    []string          // "issue", "revoke", in order
	next     map[string][]fault
	hung     bool
	asked    map[cred.GrantID]time.Time          // the latest end that renewals were asked for
	others   []string                            // names of what others made there
	during   func(spec issuer.Spec, minted bool) // called in the middle of Issue, before and after it mints
	revoking func(cred.Lease)                    // called first in Revoke
}

// minted is one credential at the source.
type minted struct {
	lease    cred.LeaseID
	grant    cred.GrantID
	notAfter time.Time // zero: none
	revoked  bool
	made     time.Time
}

func newSource(now func() time.Time) *source {
	return &source{now: now, made: map[string]minted{}, reserved: map[string]bool{}, next: map[string][]fault{}, asked: map[cred.GrantID]time.Time{}}
}

// plan says what the next calls of a method do; those after them work.
func (s *source) plan(method string, faults ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[method] = append(s.next[method], faults...)
}

// hang has a source hang in every revocation, until what it returns is called.
func (s *source) hang() (answers func()) {
	set := func(hung bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hung = hung
	}
	set(true)
	return func() { set(false) }
}

func (s *source) begin(method string) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
	if s.hung && method == "revoke" {
		return hangs
	}
	if len(s.next[method]) == 0 {
		return works
	}
	f := s.next[method][0]
	s.next[method] = s.next[method][1:]
	return f
}

// live returns the leases of all credentials that can be used now.
func (s *source) live() map[cred.LeaseID]minted {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[cred.LeaseID]minted{}
	for _, m := range s.made {
		if !m.revoked && (m.notAfter.IsZero() || s.now().Before(m.notAfter)) {
			out[m.lease] = m
		}
	}
	return out
}

func (s *source) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c == method {
			n++
		}
	}
	return n
}

// mint makes a credential, unless what was reserved for it has been revoked.
func (s *source) mint(spec issuer.Spec) (cred.Credential, cred.Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	handle := spec.Handle
	if handle == "" {
		handle = "handle-" + string(spec.ID)
	} else if !s.reserved[handle] {
		return cred.Credential{}, cred.Lease{}, false
	}
	secret := "s3cret-of-" + string(spec.ID)
	s.secrets = append(s.secrets, secret, handle)
	l := cred.Lease{Handle: handle, Revocable: !s.stands, NotAfter: spec.NotAfter.Add(s.lifeAfter)}
	if s.endless {
		l.NotAfter = time.Time{}
	}
	if s.short > 0 {
		l.NotAfter, l.Renewable = earliest(l.NotAfter, s.now().Add(s.short)), true
	}
	if s.stands {
		l.Handle, l.Note = "", "it stands"
	}
	if s.terse {
		l.Handle = ""
	}
	s.made[handle] = minted{lease: spec.ID, grant: spec.Grant, notAfter: l.NotAfter, made: s.now()}
	c := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(secret)}, NotAfter: l.NotAfter}
	return c, l, true
}

func (s *source) end(handle string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.made[handle]; ok && !s.stands {
		m.revoked = true
		s.made[handle] = m
	}
	s.reserved[handle] = false
}

// giveUp lets a grant's credential live beyond its end. (The broker's own are on record by entries alone.)
func (s *source) giveUp(handle string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.made[handle]; ok && m.grant != "" {
		m.notAfter = time.Time{}
		s.made[handle] = m
	}
}

// fakeIssuer is one process's way to a source.
type fakeIssuer struct {
	*source
	process *process
}

// fakeReserver is a fakeIssuer that can reserve.
type fakeReserver struct{ fakeIssuer }

func (i fakeReserver) Reserve(_ context.Context, spec issuer.Spec) (string, error) {
	i.process.step("reserve")
	f := i.begin("reserve")
	handle := "handle-" + string(spec.ID)
	i.mu.Lock()
	if f == works || f == doneLost {
		i.reserved[handle] = true
		i.secrets = append(i.secrets, handle)
	}
	i.mu.Unlock()
	i.process.step("reserved")
	if f != works {
		return "", cred.Errorf(cred.Unavailable, "fake.reserve", "the source does not answer", "%w", issuer.ErrNotIssued)
	}
	return handle, nil
}

func (i fakeIssuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	i.process.step("issue")
	f := i.begin("issue")
	if i.during != nil {
		i.during(spec, false)
	}
	switch f {
	case notDone:
		return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Unavailable, "fake.issue", "the source is not there", "%w", issuer.ErrNotIssued)
	case refusedOff:
		return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Denied, "fake.issue", "the source refuses", "no")
	case hangs:
		<-ctx.Done()
	}
	c, l, ok := i.mint(spec)
	if !ok {
		return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Denied, "fake.issue", "the reservation was revoked", "gone")
	}
	i.process.step("issued")
	if i.during != nil {
		i.during(spec, true)
	}
	switch f {
	case doneLost, hangs:
		return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Unavailable, "fake.issue", "the source's answer was lost", "eof")
	case doneOddly:
		return cred.Credential{}, cred.Lease{}, context.DeadlineExceeded
	}
	return c, l, nil
}

func (i fakeIssuer) Revoke(ctx context.Context, l cred.Lease) error {
	i.process.step("revoke")
	f := i.begin("revoke")
	if i.revoking != nil {
		i.revoking(l)
	}
	switch f {
	case notDone:
		return cred.Errorf(cred.Unavailable, "fake.revoke", "the source is not there", "no route")
	case hangs:
		<-ctx.Done()
		return cred.Errorf(cred.Unavailable, "fake.revoke", "the source does not answer", "%w", ctx.Err())
	case givenUp:
		i.giveUp(l.Handle)
		return &cred.Error{Kind: cred.Invalid, Op: "fake.revoke", Reason: issuer.ReasonIrrevocable, Public: "the source has given up on it"}
	}
	if i.stands && !i.unsure || l.Handle == "" {
		return cred.Errorf(cred.Invalid, "fake.revoke", "this can't be revoked", "stands")
	}
	i.end(l.Handle)
	i.process.step("revoked")
	if f == doneLost {
		return cred.Errorf(cred.Unavailable, "fake.revoke", "the source's answer was lost", "eof")
	}
	if i.unsure {
		return cred.Errorf(cred.Invalid, "fake.revoke", "the source may keep this one until its end", "sts")
	}
	return nil
}

// fakeRenewer is a fakeReserver whose credentials live shortly, and can be renewed. Its source lists
// what lives there.
type fakeRenewer struct{ fakeReserver }

func (i fakeRenewer) Renew(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error) {
	i.process.step("renew")
	f := i.begin("renew")
	switch f {
	case notDone:
		return time.Time{}, cred.Errorf(cred.Unavailable, "fake.renew", "the source is not there", "no route")
	case refusedOff:
		return time.Time{}, cred.Errorf(cred.Invalid, "fake.renew", "this one is not renewed", "no")
	case hangs:
		<-ctx.Done()
	}
	end, ok := i.extend(l.Handle, until)
	i.process.step("renewed")
	switch {
	case f == doneLost, f == hangs:
		return time.Time{}, cred.Errorf(cred.Unavailable, "fake.renew", "the source's answer was lost", "eof")
	case f == doneOddly:
		return time.Time{}, context.DeadlineExceeded
	case !ok:
		return time.Time{}, cred.Errorf(cred.NotFound, "fake.renew", "the source has no such lease", "gone")
	}
	return end, nil
}

// extend lets a credential live on, for its source's short life and never beyond its longest.
func (s *source) extend(handle string, until time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.made[handle]
	if !ok || m.revoked || !s.now().Before(m.notAfter) {
		return time.Time{}, false
	}
	if until.After(s.asked[m.grant]) {
		s.asked[m.grant] = until
	}
	m.notAfter = earliest(until, s.now().Add(s.short))
	if s.longest > 0 {
		m.notAfter = earliest(m.notAfter, m.made.Add(s.longest))
	}
	s.made[handle] = m
	return m.notAfter, true
}

func (i fakeRenewer) Live(context.Context) ([]string, error) {
	i.process.step("list")
	if f := i.begin("list"); f != works {
		return nil, cred.Errorf(cred.Unavailable, "fake.list", "the source is not there", "no route")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	names := slices.Clone(i.others)
	for handle, m := range i.made {
		if !m.revoked && (m.notAfter.IsZero() || i.now().Before(m.notAfter)) {
			names = append(names, "name-of-"+handle)
		}
	}
	return names, nil
}

func (i fakeRenewer) NameOf(l cred.Lease) string {
	if l.Handle == "" {
		return ""
	}
	return "name-of-" + l.Handle
}

// process is one life of a broker: it dies at a chosen step and does nothing after it.
type process struct {
	dead  atomic.Bool
	left  atomic.Int64 // steps until it dies; never where it is negative
	steps atomic.Int64
	at    atomic.Value // the step at which it died
}

func newProcess() *process {
	p := &process{}
	p.left.Store(-1)
	return p
}

// step is where the process may die: the goroutine ends, and every other one at its next step.
func (p *process) step(name string) {
	p.steps.Add(1)
	if p.left.Load() >= 0 && p.left.Add(-1) < 0 {
		if !p.dead.Swap(true) {
			p.at.Store(name)
		}
	}
	if p.dead.Load() {
		runtime.Goexit()
	}
}

// run calls fn on a goroutine of its own, which may die, and reports whether the process lived.
func (p *process) run(fn func()) (lived bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
		lived = !p.dead.Load()
	}()
	<-done
	return lived
}
