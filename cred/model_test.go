package cred_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"pgregory.net/rapid"
)

// meddler is an identity that gives verdicts on the request of the model below.
type meddler struct {
	who    cred.Principal
	human  string // whose identity it is
	groups []string
	barred bool // asked, acts for who asked, or is no person
}

var meddlers = []meddler{
	{mailed("okta", "ada", "ada@example.com", true), "ada", []string{"a"}, false},
	{mailed("google", "a", "Ada@Example.com", true), "ada", []string{"b"}, false},
	{mailed("okta", "bob", "bob@example.com", true), "bob", []string{"a", "b"}, false},
	{mailed("okta", "cyd", "ada@example.com", false), "cyd", []string{"c"}, false},
	{mailed("okta", "dan", "", nil), "dan", []string{"b", "c"}, false},
	{mailed("okta", "fay", "fay@example.com", true), "fay", nil, false},
	{mailed("okta", "eve", "eve@example.com", true), "eve", []string{"a", "b"}, true},
	{mailed("google", "e", "EVE@example.com", "true"), "eve", []string{"a"}, true},
	{mailed("entra", "e", "eve@example.com", nil), "eve", []string{"b"}, true},
	{cred.Principal{Issuer: "i", Subject: "agent", Kind: cred.KindAgent}, "agent", []string{"a"}, true},
	{cred.Principal{Issuer: "i", Subject: "helper", Kind: cred.KindPerson}, "helper", []string{"a", "c"}, true},
	{cred.Principal{Issuer: "i", Subject: "job", Kind: cred.KindWorkload}, "job", []string{"a", "b", "c"}, true},
}

// vote is what the model remembers of a verdict.
type vote struct {
	human  string
	groups []string
}

// machine runs a request beside a plain model of it. The grant lives in a store of one record, which
// two brokers read and write by compare-and-swap, each with a copy that may be old.
type machine struct {
	record []byte // as it is stored
	rev    uint64
	copies [2]cred.Grant
	now    time.Time

	state    cred.GrantState // here begins the model
	demand   cred.Demand
	until    time.Time
	deadline time.Time
	votes    []vote
	uses     int
}

func newMachine(t *rapid.T) *machine {
	demand := drawDemand(t)
	demand.Within, demand.Fresh = hour, rapid.SampledFrom([]time.Duration{0, 10 * time.Minute}).Draw(t, "fresh")
	holder := eve.Clone()
	agent := cred.Principal{Issuer: "i", Subject: "agent", Kind: cred.KindAgent}
	agent.Actor = &cred.Principal{Issuer: "i", Subject: "helper", Kind: cred.KindPerson}
	holder.Actor = &agent
	g := cred.NewRequest("gr_1", holder, cred.Request{Target: "t", Reason: "r"}, demand, 30*time.Minute, instant)
	if rapid.Bool().Draw(t, "window") {
		g.Until = instant.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "until")) * time.Minute)
	}
	m := &machine{now: instant, state: cred.GrantPending, demand: demand, until: g.Until, deadline: instant.Add(hour)}
	if err := m.put(g); err != nil {
		t.Fatal(err)
	}
	m.read(0)
	m.read(1)
	return m
}

// put writes a copy back as a store does: a change of an old copy is lost.
func (m *machine) put(g cred.Grant) error {
	if g.Rev != m.rev {
		return &cred.Error{Kind: cred.Conflict}
	}
	b, err := json.Marshal(g)
	m.record, m.rev = b, m.rev+1
	return err
}

func (m *machine) read(i int) {
	m.copies[i] = cred.Grant{Rev: m.rev}
	if err := json.Unmarshal(m.record, &m.copies[i]); err != nil {
		panic(err)
	}
}

// step changes a broker's copy and writes it. model is run where the copy is no old one, and says
// whether the change may succeed.
func (m *machine) step(t *rapid.T, change func(cred.Grant) (cred.Grant, error), model func() bool) {
	i := rapid.IntRange(0, 1).Draw(t, "broker")
	if rapid.Bool().Draw(t, "read first") {
		m.read(i)
	}
	old := m.copies[i].Rev != m.rev
	next, err := change(m.copies[i])
	if old {
		if err == nil && m.put(next) == nil {
			t.Fatal("an old copy was written")
		}
		m.read(i)
		return
	}
	if may := model(); may != (err == nil) {
		t.Fatalf("the model allows it: %v; it ended with %v", may, err)
	}
	if err != nil {
		return
	}
	if err := m.put(next); err != nil {
		t.Fatal(err)
	}
	m.read(i)
}

func (m *machine) review(t *rapid.T) {
	who := rapid.SampledFrom(meddlers).Draw(t, "who")
	agree, right := !seldom(t, "refuses"), !seldom(t, "wrong digest")
	age := time.Duration(rapid.IntRange(0, 12).Draw(t, "age of the sign-in")) * time.Minute
	m.step(t, func(g cred.Grant) (cred.Grant, error) {
		a := cred.Approval{By: who.who, Groups: who.groups, Verdict: cred.Verdict{Approve: agree}, Digest: g.Digest, At: m.now}
		if !right {
			a.Digest[3]++
		}
		return g.Judge(a, m.now.Add(-age))
	}, func() bool {
		asked := slices.ContainsFunc(who.groups, func(g string) bool { return slices.Contains(m.demand.Groups(), g) })
		open := m.state == cred.GrantPending || m.state == cred.GrantApproved && !agree
		again := agree && slices.ContainsFunc(m.votes, func(v vote) bool { return v.human == who.human })
		if who.barred || !asked || !right || !open || again || !m.now.Before(m.deadline) || m.demand.Fresh > 0 && age > m.demand.Fresh {
			return false
		}
		if !agree {
			m.state = cred.GrantDenied
			return true
		}
		m.votes = append(m.votes, vote{who.human, who.groups})
		if m.quorum() {
			m.state = cred.GrantApproved
		}
		return true
	})
}

func (m *machine) quorum() bool {
	var people [][]string
	for _, v := range m.votes {
		people = append(people, v.groups)
	}
	return staffed(m.demand, people)
}

func (m *machine) activate(t *rapid.T) {
	m.step(t, func(g cred.Grant) (cred.Grant, error) { return g.Activate(m.now) }, func() bool {
		if m.state != cred.GrantApproved || !m.now.Before(m.deadline) || !m.until.IsZero() && !m.now.Before(m.until) {
			return false
		}
		m.state, m.uses, m.deadline = cred.GrantActive, m.uses+1, m.now.Add(30*time.Minute)
		if !m.until.IsZero() && m.until.Before(m.deadline) {
			m.deadline = m.until
		}
		return true
	})
}

func (m *machine) expire(t *rapid.T) {
	m.step(t, func(g cred.Grant) (cred.Grant, error) { return g.Expire(m.now) }, func() bool {
		may := m.live() && !m.now.Before(m.deadline)
		if may {
			m.state = cred.GrantExpired
		}
		return may
	})
}

func (m *machine) revoke(t *rapid.T) {
	m.step(t, func(g cred.Grant) (cred.Grant, error) { return g.Revoke(m.now, "why") }, func() bool {
		may := m.live()
		if may {
			m.state = cred.GrantRevoked
		}
		return may
	})
}

func (m *machine) live() bool {
	return m.state == cred.GrantPending || m.state == cred.GrantApproved || m.state == cred.GrantActive
}

// tamper activates a copy in which somebody has changed what was asked for, or by whom.
func (m *machine) tamper(t *rapid.T) {
	g := m.copies[rapid.IntRange(0, 1).Draw(t, "broker")]
	switch rapid.IntRange(0, 2).Draw(t, "what") {
	case 0:
		g.Want.Scopes = []string{"admin"}
	case 1:
		g.Holder.Subject = "mallory"
	case 2:
		g.Holder.Actor = nil
	}
	if g, err := g.Activate(m.now); err == nil {
		t.Fatalf("what nobody approved is %s", g.State())
	}
}

// check holds what is stored against the model and, once it is active, against what must hold of any
// active grant, whatever the model says.
func (m *machine) check(t *rapid.T) {
	g := cred.Grant{}
	if err := json.Unmarshal(m.record, &g); err != nil {
		t.Fatal(err)
	}
	if g.State() != m.state || !g.NotAfter.Equal(m.deadline) || len(g.Approvals) < len(m.votes) {
		t.Fatalf("%s until %s with %d approvals; the model has %s until %s with %d", g.State(), g.NotAfter, len(g.Approvals), m.state, m.deadline, len(m.votes))
	}
	usable := m.state == cred.GrantActive && m.now.Before(m.deadline)
	if !m.now.Before(g.NotBefore) && usable != (g.Usable(m.now) == nil) {
		t.Fatalf("usable: %v", g.Usable(m.now))
	}
	if m.uses > 1 {
		t.Fatalf("it became active %d times", m.uses)
	}
	if g.State() != cred.GrantActive {
		return
	}
	people := map[string][]string{}
	for _, a := range g.Approvals {
		i := slices.IndexFunc(meddlers, func(x meddler) bool { return x.who.Same(a.By) })
		who := meddlers[i]
		if who.barred || !a.Verdict.Approve || a.Digest != g.Want.Digest(g.Holder) || !a.At.Before(instant.Add(hour)) || people[who.human] != nil {
			t.Fatalf("an approval that must not count: %+v", a)
		}
		people[who.human] = who.groups
	}
	var groups [][]string
	for _, g := range people {
		groups = append(groups, g)
	}
	if !staffed(m.demand, groups) || !g.NotBefore.Before(instant.Add(hour)) {
		t.Fatalf("active at %s with %v for %+v", g.NotBefore, people, m.demand)
	}
}

// No interleaving of verdicts, moves of the clock, expiries, revocations, restarts and two brokers
// makes a request active without its quorum of distinct people of whom none asked, twice, after its
// deadline or for another digest.
func TestNoInterleavingGrantsWithoutItsQuorum(t *testing.T) {
	used, kept := 0, 0
	one := func(t *rapid.T) {
		m := newMachine(t)
		steps := map[string]func(*rapid.T){
			"review": m.review, "activate": m.activate, "tamper": m.tamper, "expire": m.expire, "revoke": m.revoke, "clock": m.moveClock,
		}
		often := []string{"review", "review", "review", "review", "activate", "clock", "activate", "review", "tamper", "expire"}
		for range rapid.IntRange(5, 40).Draw(t, "steps") {
			name := rapid.SampledFrom(often).Draw(t, "step")
			if seldom(t, "revoke") {
				name = "revoke"
			}
			steps[name](t)
			m.check(t)
		}
		used += m.uses
		if m.state == cred.GrantPending && len(m.votes) > 0 {
			kept++
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 5 {
			one(t)
		}
	})
	if !testing.Short() && (used < 5 || kept < 3) { // -short runs fewer checks
		t.Errorf("%d requests were granted and %d kept waiting for the rest of their quorum; this shows too little", used, kept)
	}
}

// seldom is true once in thirty times or less.
func seldom(t *rapid.T, label string) bool { return rapid.IntRange(0, 31).Draw(t, label) == 31 }

// moveClock moves it forward for the most part, and back at times.
func (m *machine) moveClock(t *rapid.T) {
	by := rapid.IntRange(0, 20).Draw(t, "minutes")
	if seldom(t, "back") {
		by = -by
	}
	m.now = m.now.Add(time.Duration(by) * time.Minute)
}
