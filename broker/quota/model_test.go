package quota

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// model is a Limiter for one target, written plainly: buckets are levels that rise by one each
// nanosecond, and everything is kept for ever.
type model struct {
	now    time.Duration // of its own clock
	own    map[string]*level
	total  level
	ends   time.Duration
	period cred.Rate
	asked  map[string]bool // in this period
	before map[string]bool
	taken  map[string]int
}

type level struct {
	rate     cred.Rate
	ns, seen time.Duration // how much is there, and when that was so
}

func each(r cred.Rate) time.Duration { return (r.Per + time.Duration(r.N) - 1) / time.Duration(r.N) }

func brim(r cred.Rate) time.Duration { return each(r) * time.Duration(r.N) }

// same reports whether two rates differ by less than a clock can tell.
func same(r, s cred.Rate) bool { return r.N == s.N && each(r) == each(s) }

// upTo brings a level to an instant, and to a rate.
func (l *level) upTo(now time.Duration, r cred.Rate) {
	if l.rate.N == 0 {
		*l = level{r, brim(r), now}
	}
	l.ns, l.seen = min(l.ns+now-l.seen, brim(l.rate)), now
	if !same(l.rate, r) {
		missing := int((brim(l.rate) - l.ns + each(l.rate) - 1) / each(l.rate))
		l.rate, l.ns = r, each(r)*time.Duration(max(0, r.N-missing))
	}
}

func (m *model) take(q cred.Quota, who string) bool {
	mayOwn, mayTotal := true, true
	if q.PerPrincipal.N > 0 {
		l := m.own[who]
		if l == nil {
			l = &level{}
			m.own[who] = l
		}
		l.upTo(m.now, q.PerPrincipal)
		mayOwn = l.ns >= each(q.PerPrincipal)
	}
	if q.Total.N > 0 {
		m.total.upTo(m.now, q.Total)
		m.startPeriod(q.Total)
		if mayOwn {
			m.asked[who] = true
		}
		left := int(m.total.ns / each(q.Total))
		mayTotal = left > 0 && (!m.others(who) || left > m.taken[who])
	}
	if !mayOwn || !mayTotal {
		return false
	}
	if q.PerPrincipal.N > 0 {
		m.own[who].ns -= each(q.PerPrincipal)
	}
	if q.Total.N > 0 {
		m.total.ns -= each(q.Total)
		m.taken[who]++
	}
	return true
}

func (m *model) startPeriod(r cred.Rate) {
	if m.asked != nil && same(m.period, r) && m.now < m.ends {
		return
	}
	m.before = m.asked
	if m.asked != nil && m.now-m.ends >= brim(m.period) {
		m.before = nil
	}
	m.asked, m.taken, m.period, m.ends = map[string]bool{}, map[string]int{}, r, m.now+brim(r)
}

func (m *model) others(who string) bool {
	for _, all := range []map[string]bool{m.asked, m.before} {
		for name := range all {
			if name != who {
				return true
			}
		}
	}
	return false
}

var names = []string{"ada", "bob", "cyd", "dan"}

func drawRate(t *rapid.T, label string) cred.Rate {
	return cred.Rate{
		N:   rapid.IntRange(1, 12).Draw(t, label+" n"),
		Per: time.Duration(rapid.Int64Range(1, 1000).Draw(t, label+" per")) * rapid.SampledFrom([]time.Duration{1, time.Second}).Draw(t, label+" unit"),
	}
}

func drawQuota(t *rapid.T) cred.Quota {
	q := cred.Quota{PerPrincipal: drawRate(t, "own"), Total: drawRate(t, "total")}
	switch rapid.IntRange(0, 3).Draw(t, "which") {
	case 0:
		q.PerPrincipal = cred.Rate{}
	case 1:
		q.Total = cred.Rate{}
	}
	return q
}

// Whoever calls when, whatever becomes of the clock and of the quota: the Limiter says what the model
// says, and RetryAfter is the time after which the call succeeds if nobody else calls, to the
// nanosecond.
func TestLimiterIsTheModel(t *testing.T) {
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h, l := newHand()
		m := &model{own: map[string]*level{}}
		q := drawQuota(t)
		span := func() time.Duration {
			r := q.Total
			if r.N == 0 {
				r = q.PerPrincipal
			}
			return time.Duration(rapid.Int64Range(0, 2*int64(r.Per)).Draw(t, "time"))
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 40).Draw(t, "step") {
			case 38:
				q = drawQuota(t)
			case 39:
				h.move(-span())
				l.clock.read(h.at) // else the way back and the next one forth would be one step
			case 20, 21, 22, 23:
				by := span()
				h.move(by)
				l.clock.read(h.at)
				m.now += by
			case 17, 18, 19, 40:
				l.sweeps = sweeps{}
			default:
				who := rapid.SampledFrom(names).Draw(t, "who")
				want := m.take(q, who)
				err := l.Take("db", q, person(who))
				if (err == nil) != want {
					t.Fatalf("%s: %v; the model allows it: %v", who, err, want)
				}
				if want {
					taken++
					continue
				}
				refused++
				checkRetryAfter(t, l, q, who, err)
			}
		}
	})
	if !testing.Short() && (taken < 100 || refused < 100) { // -short runs fewer checks
		t.Errorf("%d calls were allowed and %d refused; this shows too little", taken, refused)
	}
}

func checkRetryAfter(t *rapid.T, l *Limiter, q cred.Quota, who string, err error) {
	wait, known := cred.RetryAfter(err)
	if !known {
		t.Fatalf("no time in %v", err)
	}
	if at(l, wait-1).Take("db", q, person(who)) == nil {
		t.Fatalf("%s may call before %s have passed", who, wait)
	}
	if err := at(l, wait).Take("db", q, person(who)); err != nil {
		t.Fatalf("%s after %s: %v", who, wait, err)
	}
}

// at returns a copy of a Limiter as it would be some time later.
func at(l *Limiter, later time.Duration) *Limiter {
	now := l.now().Add(later)
	c := New(func() time.Time { return now })
	c.clock, c.sweeps = l.clock, l.sweeps
	for name, t := range l.targets {
		twin := *t
		twin.people, twin.shares.taken = maps.Clone(t.people), maps.Clone(t.shares.taken)
		c.targets[name] = &twin
	}
	return c
}

// No span of time, wherever it begins, sees more calls than a full bucket and what comes in by then;
// and whoever is refused for the total has taken at least as much in the period as anybody who would
// be admitted in its place.
func TestBoundAndOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, l := newHand()
		q := cred.Quota{Total: drawRate(t, "total")}
		var took []time.Duration
		for range rapid.IntRange(10, 80).Draw(t, "steps") {
			who := rapid.SampledFrom(names).Draw(t, "who")
			if l.Take("db", q, person(who)) == nil {
				took = append(took, l.clock.sum)
			} else {
				checkOrder(t, l, q, who)
			}
			if rapid.IntRange(0, 3).Draw(t, "time passes") == 3 {
				h.move(time.Duration(rapid.Int64Range(0, int64(q.Total.Per)).Draw(t, "by")))
			}
		}
		for i := range took {
			for j := i; j < len(took); j++ {
				if n, most := j-i+1, q.Total.N+int((took[j]-took[i])/each(q.Total)); n > most {
					t.Fatalf("%d calls in %s of %+v", n, took[j]-took[i], q.Total)
				}
			}
		}
	})
}

func checkOrder(t *rapid.T, l *Limiter, q cred.Quota, refused string) {
	taken := l.targets["db"].shares.taken
	for _, other := range names {
		if taken[callerOf(person(other))] < taken[callerOf(person(refused))] {
			continue
		}
		if other != refused && at(l, 0).Take("db", q, person(other)) == nil {
			t.Fatalf("%s is refused and %s, who has taken as much or more, is not: %v", refused, other, taken)
		}
	}
}

// However hard others hammer, a newcomer gets the next token there is.
func TestHammeringStarvesNobody(t *testing.T) {
	for hammers := 1; hammers <= 20; hammers++ {
		h, l := newHand()
		q := cred.Quota{Total: cred.Rate{N: 60, Per: time.Hour}}
		hammer := func(d time.Duration) {
			for until := h.at.Add(d); h.at.Before(until); h.move(7 * time.Second) {
				for i := range hammers {
					_ = l.Take("db", q, person(fmt.Sprint(i)))
				}
			}
		}
		hammer(150 * time.Minute) // in the middle of a period
		err := l.Take("db", q, person("new"))
		if wait, _ := cred.RetryAfter(err); err != nil {
			if wait > time.Minute {
				t.Errorf("beside %d others a newcomer is to wait for %s", hammers, wait)
			}
			hammer(wait)
			err = l.Take("db", q, person("new"))
		}
		if err != nil {
			t.Errorf("beside %d others a newcomer is refused again: %v", hammers, err)
		}
	}
}

// Callers that ask all the time get the same share of all there is, and one alone gets all of it.
func TestSharesAreFairAndNothingIsLost(t *testing.T) {
	for _, hammers := range []int{1, 2, 3, 5, 12} {
		h, l := newHand()
		q := cred.Quota{Total: cred.Rate{N: 60, Per: time.Hour}}
		got := make([]int, hammers)
		const periods = 10
		for range periods * 360 {
			for i := range got {
				if l.Take("db", q, person(fmt.Sprint(i))) == nil {
					got[i]++
				}
			}
			h.move(10 * time.Second)
		}
		sum, share := 0, 60*periods/hammers
		for i, n := range got {
			sum += n
			if n < share*8/10 || n > share*12/10+60 {
				t.Errorf("of %d callers, number %d got %d and a fair share is %d: %v", hammers, i, n, share, got)
			}
		}
		if sum < 60*periods || sum > 60*(periods+1) {
			t.Errorf("%d callers got %d in %d periods of 60", hammers, sum, periods)
		}
	}
}
