package quota

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// hand is a clock that stands until somebody moves it.
type hand struct{ at time.Time }

func (h *hand) now() time.Time { return h.at }

func (h *hand) move(by time.Duration) { h.at = h.at.Add(by) }

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func newHand() (*hand, *Limiter) {
	h := &hand{start}
	return h, New(h.now)
}

func person(name string) cred.Principal {
	return cred.Principal{Provider: "okta", Issuer: "https://id.example.com", Subject: name, Kind: cred.KindPerson}
}

func perHour(n int) cred.Rate { return cred.Rate{N: n, Per: time.Hour} }

// takeAll takes until it is refused, at most a thousand times, and returns how often it could.
func takeAll(l *Limiter, target string, q cred.Quota, who cred.Principal) int {
	for n := range 1000 {
		if l.Take(target, q, who) != nil {
			return n
		}
	}
	return 1000
}

func TestOwnQuota(t *testing.T) {
	h, l := newHand()
	q := cred.Quota{PerPrincipal: perHour(30)}
	if n := takeAll(l, "db", q, person("ada")); n != 30 {
		t.Errorf("a full bucket of 30 gave %d", n)
	}
	err := l.Take("db", q, person("ada"))
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != cred.Exhausted || e.Reason != "QUOTA_EXCEEDED" || e.Public != "you have used your quota of this target; try again in 2m0s" {
		t.Errorf("%#v", err)
	}
	if wait, known := cred.RetryAfter(err); wait != 2*time.Minute || !known {
		t.Errorf("retry after %s, %v", wait, known)
	}
	for _, other := range []int{takeAll(l, "db", q, person("bob")), takeAll(l, "web", q, person("ada"))} {
		if other != 30 {
			t.Errorf("another bucket had %d", other)
		}
	}
	h.move(5 * time.Minute)
	if n := takeAll(l, "db", q, person("ada")); n != 2 {
		t.Errorf("five minutes brought %d", n)
	}
	h.move(100 * time.Hour)
	if n := takeAll(l, "db", q, person("ada")); n != 30 {
		t.Errorf("a hundred hours brought %d", n)
	}
}

func TestNoQuotaIsNoBound(t *testing.T) {
	_, l := newHand()
	if n := takeAll(l, "db", cred.Quota{}, person("ada")); n != 1000 || len(l.targets) != 0 {
		t.Errorf("%d calls, %d records", n, len(l.targets))
	}
	if n := takeAll(l, "db", cred.Quota{Total: perHour(7)}, person("ada")); n != 7 || len(l.targets["db"].people) != 0 {
		t.Errorf("%d calls, %d records", n, len(l.targets["db"].people))
	}
	if n := takeAll(l, "web", cred.Quota{PerPrincipal: perHour(7)}, person("ada")); n != 7 {
		t.Errorf("%d calls", n)
	}
}

func TestBrokenQuotasGiveNothing(t *testing.T) {
	_, l := newHand()
	for _, r := range []cred.Rate{{N: 0, Per: time.Hour}, {N: 5}, {N: -1, Per: time.Hour}, {N: 5, Per: -1}} {
		for _, q := range []cred.Quota{{PerPrincipal: r}, {Total: r}} {
			if err := l.Take("db", q, person("ada")); err == nil || cred.KindOf(err) != cred.Internal {
				t.Errorf("%+v: %v", q, err)
			}
		}
	}
	if len(l.targets) != 0 {
		t.Error("they left a record")
	}
}

func TestExtremeQuotas(t *testing.T) {
	h, l := newHand()
	for _, r := range []cred.Rate{{N: math.MaxInt, Per: math.MaxInt64}, {N: math.MaxInt, Per: 1}, {N: 1, Per: math.MaxInt64}, {N: 1, Per: 1}} {
		target := fmt.Sprint(r)
		for range 3 {
			for _, name := range []string{"ada", "bob"} {
				err := l.Take(target, cred.Quota{PerPrincipal: r, Total: r}, person(name))
				if wait, known := cred.RetryAfter(err); err != nil && (!known || wait <= 0) {
					t.Errorf("%v: %v", r, err)
				}
			}
			h.move(200 * 365 * 24 * time.Hour)
		}
		h.at = start
	}
}

// What an agent does counts against the person it acts for, whichever agent it is.
func TestAgentsSpendTheirPersonsQuota(t *testing.T) {
	_, l := newHand()
	q := cred.Quota{PerPrincipal: perHour(4)}
	for _, agent := range []string{"", "one", "two"} {
		who := person("ada")
		if agent != "" {
			a := person(agent)
			who.Actor = &a
		}
		if err := l.Take("db", q, who); err != nil {
			t.Fatal(err)
		}
	}
	if n := takeAll(l, "db", q, person("ada")); n != 1 {
		t.Errorf("after three calls out of four there were %d", n)
	}
	if n := takeAll(l, "db", q, person("one")); n != 4 {
		t.Errorf("an agent that acts for itself had %d", n)
	}
	elsewhere := person("ada")
	elsewhere.Provider = "okta-eu"
	if n := takeAll(l, "db", q, elsewhere); n != 4 {
		t.Errorf("another provider's ada had %d", n)
	}
}

// A call that one of the two buckets refuses costs nothing in the other.
func TestBothOrNone(t *testing.T) {
	h, l := newHand()
	q := cred.Quota{PerPrincipal: perHour(60), Total: perHour(2)}
	if n := takeAll(l, "db", q, person("ada")); n != 2 {
		t.Fatalf("%d of the total", n)
	}
	for range 500 {
		_ = l.Take("db", q, person("ada"))
	}
	wide := cred.Quota{PerPrincipal: perHour(60)}
	if n := takeAll(l, "db", wide, person("ada")); n != 58 {
		t.Errorf("refusals for the total left %d of the own quota", n)
	}
	for range 500 {
		_ = l.Take("db", q, person("ada"))
	}
	h.move(30 * time.Minute)
	if n := takeAll(l, "db", cred.Quota{Total: perHour(2)}, person("ada")); n != 1 {
		t.Errorf("half an hour brought %d of the total", n)
	}
}

func TestAChangedQuotaKeepsWhatIsMissing(t *testing.T) {
	h, l := newHand()
	quota := func(n int, per time.Duration) cred.Quota {
		return cred.Quota{PerPrincipal: cred.Rate{N: n, Per: per}}
	}
	who := person("ada")
	_ = takeAll(l, "db", quota(30, time.Hour), who)
	for _, step := range []struct {
		q    cred.Quota
		move time.Duration
		want int
	}{
		{quota(30, 2*time.Hour), 0, 0},             // another speed
		{quota(40, time.Hour), 0, 10},              // what was added
		{quota(5, time.Hour), 0, 0},                // less
		{quota(5, time.Hour), 12 * time.Minute, 1}, // its own speed, at once
		{quota(5, 5*time.Minute), 0, 0},
		{quota(5, 5*time.Minute), time.Minute, 1},
		{quota(500, time.Hour), 0, 495},
	} {
		h.move(step.move)
		if n := takeAll(l, "db", step.q, who); n != step.want {
			t.Errorf("%+v after %s gave %d, want %d", step.q.PerPrincipal, step.move, n, step.want)
		}
	}
}

// A clock that is set back gives nothing, and does not stop what comes after.
func TestClockSetBack(t *testing.T) {
	h, l := newHand()
	q := cred.Quota{PerPrincipal: perHour(4)}
	_ = takeAll(l, "db", q, person("ada"))
	h.move(-24 * time.Hour)
	if n := takeAll(l, "db", q, person("ada")); n != 0 {
		t.Errorf("a day back brought %d", n)
	}
	if wait, _ := cred.RetryAfter(l.Take("db", q, person("ada"))); wait != 15*time.Minute {
		t.Errorf("the next one comes in %s", wait)
	}
	h.move(30 * time.Minute)
	if n := takeAll(l, "db", q, person("ada")); n != 2 {
		t.Errorf("half an hour after it brought %d", n)
	}
}

func TestTimeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, q := New(time.Now), cred.Quota{PerPrincipal: perHour(4)}
		_ = takeAll(l, "db", q, person("ada"))
		wait, _ := cred.RetryAfter(l.Take("db", q, person("ada")))
		time.Sleep(wait - time.Nanosecond)
		if l.Take("db", q, person("ada")) == nil {
			t.Error("it came too early")
		}
		time.Sleep(time.Nanosecond)
		if err := l.Take("db", q, person("ada")); err != nil {
			t.Error(err)
		}
	})
}

// However many call at once, a bucket gives what it holds.
func TestConcurrentCallers(t *testing.T) {
	_, l := newHand()
	q := cred.Quota{PerPrincipal: perHour(10), Total: perHour(35)}
	var all [8]atomic.Int64
	var done sync.WaitGroup
	for i := range all {
		for range 4 {
			done.Go(func() {
				for range 50 {
					if l.Take("db", q, person(fmt.Sprint(i))) == nil {
						all[i].Add(1)
					}
				}
			})
		}
	}
	done.Wait()
	sum := int64(0)
	for i := range all {
		n := all[i].Load()
		if sum += n; n > 10 {
			t.Errorf("caller %d got %d", i, n)
		}
	}
	for i := range all { // whoever is refused has taken as much as is left
		if n := all[i].Load(); sum > 35 || n < 10 && n < 35-sum {
			t.Errorf("caller %d got %d, of 35 there were %d given", i, n, sum)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	h, l := newHand()
	q := cred.Quota{PerPrincipal: cred.Rate{N: 3, Per: time.Minute}, Total: cred.Rate{N: 1 << 30, Per: time.Minute}}
	most := 0
	for i := range 50_000 { // each is full again after 20 s, in which 2,000 others call
		if err := l.Take("db", q, person(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		most = max(most, len(l.targets["db"].people))
		h.move(10 * time.Millisecond)
	}
	if most > 2*2000+sweepBefore {
		t.Errorf("%d buckets at the most", most)
	}
	h.move(10 * time.Minute)
	if err := l.Take("web", q, person("ada")); err != nil {
		t.Fatal(err)
	}
	if len(l.targets) != 1 || l.targets["db"] != nil {
		t.Errorf("%d targets are kept", len(l.targets))
	}
}

// Who has nothing of its own left could take nothing anyhow, and so keeps nothing from the others.
func TestWhoMayNotTakeMakesNobodyShare(t *testing.T) {
	h, l := newHand()
	total := cred.Quota{Total: perHour(10)}
	both := cred.Quota{Total: perHour(10), PerPrincipal: cred.Rate{N: 1, Per: 100 * time.Hour}}
	if n := takeAll(l, "db", both, person("ada")); n != 1 {
		t.Fatalf("%d calls", n)
	}
	h.move(10 * time.Hour)
	if n := takeAll(l, "db", both, person("ada")); n != 0 {
		t.Fatalf("%d calls", n)
	}
	if n := takeAll(l, "db", total, person("bob")); n != 10 {
		t.Errorf("one who asks alone gets %d of 10", n)
	}
	h.move(10 * time.Hour)
	_ = l.Take("db", total, person("ada"))
	if n := takeAll(l, "db", total, person("bob")); n != 5 {
		t.Errorf("one who does not gets %d of the 9 that are left", n)
	}
}

// Who asked in the period before counts, although the bucket is full again and has been swept.
func TestThePeriodBeforeCounts(t *testing.T) {
	for ago, want := range map[time.Duration]int{90 * time.Minute: 5, 119 * time.Minute: 5, 2 * time.Hour: 10} {
		h, l := newHand()
		total := cred.Quota{Total: perHour(10)}
		if err := l.Take("db", total, person("ada")); err != nil {
			t.Fatal(err)
		}
		h.move(ago)
		if n := takeAll(l, "db", total, person("bob")); n != want {
			t.Errorf("%s after somebody else one gets %d of 10", ago, n)
		}
	}
}
