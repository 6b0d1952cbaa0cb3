package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// TestCrashes does what callers do in any order, with failures of the store and of the sources, with
// calls in the middle of other calls, and with processes that die at any step. After each step the log
// verifies and tells the state of every record, and whatever lives at a source is on record. After a
// recovery nothing lives whose grant is over, but for what nobody can end, which is on record as that.
func TestCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "daypass")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c := &clock{at: noon}
		s := &story{t: t, world: buildWorld(t, dir, c.now)}
		s.clock = c
		defer func() { _ = s.disk.Close() }()
		for range rapid.IntRange(1, 25).Draw(t, "length") {
			s.turn()
			s.check()
			s.checkRenewals()
		}
		s.recover()
	})
}

// story is a world in which a run of random steps takes place.
type story struct {
	*world
	t      *rapid.T
	grants []cred.Grant
	tokens []string
	wrong  []string // what went wrong off the test's goroutine
}

// The targets of stories, and their sources.
var (
	storyTargets = []string{"db", "plain", "api", "fixed", "sts", "endless", "long", "short"}
	storySources = []string{"vault", "plain", "fixed", "sts", "endless", "long", "short"}
)

// turn does one step; the process may die in it, and then the next one starts.
func (s *story) turn() {
	do := s.draw(rapid.IntRange(0, 10).Draw(s.t, "step"))
	if !s.process.run(do) {
		s.start()
	}
	if len(s.wrong) > 0 {
		s.t.Fatalf("%v", s.wrong)
	}
}

// draw chooses all that is random in a step beforehand, so that a run can be repeated.
func (s *story) draw(step int) func() {
	switch step {
	case 0, 1:
		return s.exchange()
	case 2, 3:
		return s.redeem()
	case 4:
		return s.revoke()
	case 5:
		return func() { s.told(s.Sweep(context.Background())) }
	case 6:
		d := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 20 * time.Second, time.Minute, 15 * time.Minute}).Draw(s.t, "advance")
		return func() { s.clock.advance(d) }
	case 7:
		steps := rapid.Int64Range(0, 14).Draw(s.t, "dies after")
		return func() { s.process.left.Store(steps) }
	case 8:
		return s.fault()
	case 9:
		return s.own()
	default:
		return s.interrupt()
	}
}

func (s *story) exchange() func() {
	want := cred.Request{
		Target:         rapid.SampledFrom(storyTargets).Draw(s.t, "target"),
		IdempotencyKey: rapid.SampledFrom([]string{"", "a", "b"}).Draw(s.t, "key"),
	}
	atOnce := rapid.Bool().Draw(s.t, "delivered at once")
	return func() {
		if atOnce {
			s.deliver(want)
			return
		}
		g, err := s.Exchange(context.Background(), as(runner), want)
		if s.told(err); err != nil {
			return
		}
		tok, err := s.GrantToken(g)
		if s.told(err); err == nil {
			s.grants, s.tokens = append(s.grants, g), append(s.tokens, tok.RevealString())
		}
	}
}

func (s *story) deliver(want cred.Request) {
	got, err := s.Deliver(context.Background(), as(runner), want, "")
	s.told(err)
	switch {
	case err != nil && (got.Redeemed != nil || !got.Token.IsZero()):
		s.wrong = append(s.wrong, "a secret came with an error")
	case err != nil:
	case got.Redeemed != nil && got.Redeemed.Lease.State() != cred.LeaseIssued:
		s.wrong = append(s.wrong, "a secret came with a lease that is "+string(got.Redeemed.Lease.State()))
	default:
		s.grants, s.tokens = append(s.grants, got.Grant), append(s.tokens, got.Token.RevealString())
	}
}

// pick chooses a grant, by a number that fits however many there will be.
func (s *story) pick() func() (cred.Grant, string, bool) {
	n := rapid.IntRange(0, 3).Draw(s.t, "grant, from the last")
	return func() (cred.Grant, string, bool) {
		if n >= len(s.grants) {
			return cred.Grant{}, "", false
		}
		i := len(s.grants) - 1 - n
		return s.grants[i], s.tokens[i], true
	}
}

func (s *story) redeem() func() {
	pick := s.pick()
	return func() {
		g, tok, ok := pick()
		if !ok {
			return
		}
		r, err := s.world.redeem(g.Want.Target, tok)
		s.told(err)
		if err != nil && r.Credential.Fields != nil {
			s.wrong = append(s.wrong, "a secret came with an error")
		}
		if err == nil && r.Lease.State() != cred.LeaseIssued {
			s.wrong = append(s.wrong, "a secret came with a lease that is "+string(r.Lease.State()))
		}
	}
}

func (s *story) revoke() func() {
	pick := s.pick()
	return func() {
		g, _, ok := pick()
		if !ok {
			return
		}
		got, _, err := s.Revoke(context.Background(), runner, g.ID, "")
		s.told(err)
		if err == nil && got.State() != cred.GrantRevoked && got.State() != cred.GrantExpired {
			s.wrong = append(s.wrong, "after its revocation a grant is "+string(got.State()))
		}
	}
}

// own mints for the broker itself, and may end that again.
func (s *story) own() func() {
	name := rapid.SampledFrom([]string{"vault", "plain", "sts"}).Draw(s.t, "source")
	ends := rapid.Bool().Draw(s.t, "ended")
	return func() {
		own, err := s.MintOwn(context.Background(), "tests", cred.CredentialSource{Issuer: name}, s.now().Add(time.Hour))
		if s.told(err); err != nil && own.Fields != nil {
			s.wrong = append(s.wrong, "a secret of the broker's own came with an error")
		}
		if ends {
			s.EndOwn(context.Background(), own)
		}
	}
}

// fault plans what goes wrong next.
func (s *story) fault() func() {
	f := rapid.SampledFrom([]fault{notDone, refusedOff, doneLost, doneOddly, givenUp}).Draw(s.t, "fault")
	where := rapid.SampledFrom([]string{"reserve", "issue", "revoke", "renew", "store"}).Draw(s.t, "where")
	name := rapid.SampledFrom(storySources).Draw(s.t, "source")
	before := rapid.IntRange(0, 3).Draw(s.t, "writes before it")
	return func() {
		if where != "store" {
			sure := f == notDone || f == doneLost
			if f == givenUp && where == "revoke" && reserves(name) || f != givenUp && (where == "issue" || where == "renew" || sure) {
				s.sources[name].plan(where, f)
			}
			return
		}
		plan := append(make([]fault, before), notDone)
		if f == doneLost {
			plan[before] = doneLost
		}
		s.store.plan(plan...)
	}
}

// reserves reports whether a source of the story keeps what it has given up on under a handle that is
// always on record.
func reserves(source string) bool { return source == "vault" || source == "short" }

// interrupt puts a step into the middle of a source's next Issue.
func (s *story) interrupt() func() {
	source := s.sources[rapid.SampledFrom(storySources).Draw(s.t, "source")]
	late := rapid.Bool().Draw(s.t, "after it minted")
	do := s.draw(rapid.IntRange(0, 6).Draw(s.t, "what comes between"))
	return func() {
		source.during = func(_ issuer.Spec, minted bool) {
			if minted == late {
				source.during = nil
				do()
			}
		}
	}
}

// told wants an error to be ours, and one that says something.
func (s *story) told(err error) {
	if err == nil {
		return
	}
	if _, ours := errors.AsType[*cred.Error](err); !ours && !errors.Is(err, context.DeadlineExceeded) {
		s.wrong = append(s.wrong, fmt.Sprintf("the error %v", err))
	}
}

// recover ends all faults, starts anew and lets the sweep do its work.
func (s *story) recover() {
	for _, source := range s.sources {
		source.next, source.during = map[string][]fault{}, nil
	}
	s.start()
	for range 3 { // abandoned intents first, then what was to be tried again
		s.clock.advance(time.Minute)
		s.must(s.Sweep(context.Background()))
	}
	s.check()
	grants, leases := s.replay()
	own := s.replayOwn()
	for name, source := range s.sources {
		for id, m := range source.live() {
			if own[id] != "" {
				continue // it is on record, and ends by itself
			}
			l, g := leases[id], grants[m.grant]
			told := l.State() == cred.LeaseUnknown || l.State() == cred.LeaseIssued && !l.Revocable || s.lostWithoutEnd(source, l)
			if g.Usable(s.now()) != nil && !told {
				s.t.Errorf("a credential lives at %s, its grant is %s and its lease %s", name, g.State(), l.State())
			}
			if name == "vault" && l.State() == cred.LeaseUnknown && !irrevocable(l) {
				s.t.Errorf("a lease of a source that reserves is unknown")
			}
		}
	}
	for id, l := range leases {
		if l.State() == cred.LeaseIntent || l.State() == cred.LeaseRevoking {
			s.t.Errorf("after the recovery lease %s is %s", id, l.State())
		}
	}
	s.end()
}

// end lets everything run out.
func (s *story) end() {
	s.clock.advance(2 * time.Hour)
	s.must(s.Sweep(context.Background()))
	s.check()
	grants, leases := s.replay()
	for id, g := range grants {
		if g.State() == cred.GrantActive {
			s.t.Errorf("grant %s never ended", id)
		}
	}
	for id, l := range leases {
		if !l.Final() {
			s.t.Errorf("lease %s of %s is %s when all is over", id, l.Issuer, l.State())
		}
	}
	for name, source := range s.sources {
		for id := range source.live() {
			if !s.lostWithoutEnd(source, leases[id]) {
				s.t.Errorf("a credential lives at %s when all is over", name)
			}
		}
	}
}
