package jobs

import (
	"net/http"
	"strconv"
	"time"
)

// The bounds of what a source may ask for, and what is waited where it limits us and says nothing.
const (
	minLimit     = time.Second
	maxLimit     = time.Hour
	defaultLimit = time.Minute
)

// limitOf returns how long an answer asks to be left alone, zero where it does not: 429, and 403 with
// Retry-After or with no request left until a reset
// (https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api,
// https://docs.gitlab.com/security/rate_limits/).
func limitOf(resp *http.Response, now time.Time) time.Duration {
	h := resp.Header
	spent := h.Get("X-RateLimit-Remaining") == "0" || h.Get("RateLimit-Remaining") == "0"
	after, err := strconv.Atoi(h.Get("Retry-After"))
	says := err == nil && after >= 0
	if resp.StatusCode != http.StatusTooManyRequests && (resp.StatusCode != http.StatusForbidden || !says && !spent) {
		return 0
	}
	if says {
		return bounded(time.Duration(min(after, int(maxLimit/time.Second))) * time.Second)
	}
	for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
		if reset, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil {
			return bounded(time.Unix(reset, 0).Sub(now))
		}
	}
	return defaultLimit
}

func bounded(d time.Duration) time.Duration { return min(max(d, minLimit), maxLimit) }
