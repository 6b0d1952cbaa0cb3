package quota

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// The greatest rates that are told apart, so that no sum overflows. A greater N is as good as no bound;
// a longer Per counts as this.
const (
	maxN   = 1 << 40
	maxPer = 1 << 55 // nanoseconds; 417 days
)

// rate is a cred.Rate in the form that buckets reckon with.
type rate struct {
	n    int64         // tokens that a bucket holds
	each time.Duration // time in which one token comes back, rounded up
}

// rateOf returns a rate, whose n is zero where there is no bound. A Rate that is neither zero nor
// sensible is an Internal error: the configuration does not let it pass.
func rateOf(r cred.Rate) (rate, error) {
	switch {
	case r == cred.Rate{}:
		return rate{}, nil
	case r.N < 1 || r.Per < 1:
		return rate{}, cred.Errorf(cred.Internal, "quota", "", "a quota of %d in %s", r.N, r.Per)
	}
	n, per := min(int64(r.N), maxN), min(r.Per, maxPer)
	return rate{n, (per-1)/time.Duration(n) + 1}, nil
}

// period returns the time in which an empty bucket fills.
func (r rate) period() time.Duration { return time.Duration(r.n) * r.each }

// bucket is a token bucket. It keeps when it will be full again, from which follows how many tokens
// are missing at any instant; the zero bucket is full.
type bucket struct {
	rate rate          // that full is reckoned with
	full time.Duration // when it is full, on the Limiter's clock
}

// at returns the bucket with a rate, which may be another than it had. As many tokens are missing as
// before, but no more than it can hold: a raised quota gives what it adds and nothing else, a lowered
// one is in force at once.
func (b bucket) at(r rate, now time.Duration) bucket {
	if b.rate == r {
		return b
	}
	return bucket{r, now + time.Duration(min(b.missing(now), r.n))*r.each}
}

// missing returns how many tokens are not there; one that has come back in part is missing.
func (b bucket) missing(now time.Duration) int64 {
	if b.full <= now {
		return 0
	}
	return int64((b.full-now-1)/b.rate.each) + 1
}

// wait returns how long it takes until so many tokens are there, at most n, if nobody takes any.
func (b bucket) wait(tokens int64, now time.Duration) time.Duration {
	return max(0, b.full-now-time.Duration(b.rate.n-tokens)*b.rate.each)
}

// take returns the bucket with a token less.
func (b bucket) take(now time.Duration) bucket {
	b.full = max(b.full, now) + b.rate.each
	return b
}
