package gcp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// TestFaultThenRefusal holds that a refusal of a later try does not say that nothing was made, where an
// earlier one was answered with a fault.
func TestFaultThenRefusal(t *testing.T) {
	for name, tc := range map[string]struct {
		path, at string
		params   map[string]string
		certain  bool
	}{
		"the last request":     {account, "generate", nil, false},
		"the only request":     {"", "token", nil, false},
		"the last but one":     {account, "generate", map[string]string{"boundary": boundary}, true},
		"the first of several": {account, "token", nil, true},
	} {
		for _, second := range []int{http.StatusForbidden, http.StatusTooManyRequests} {
			t.Run(fmt.Sprintf("%s, %d", name, second), func(t *testing.T) {
				c := newCloud(t)
				tries := 0
				c.answer = func(w http.ResponseWriter, path string) bool {
					if path != tc.at {
						return false
					}
					if tries++; tries == 1 {
						w.WriteHeader(http.StatusInternalServerError)
						return true
					}
					w.Header().Set("Retry-After", "60")
					w.WriteHeader(second)
					_, _ = w.Write([]byte(`{"error":"unauthorized_client"}`))
					return true
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, _, err := open(t, config(c.URL)).Issue(ctx, spec(10*time.Minute, tc.path, tc.params))
				if open := !errors.Is(err, issuer.ErrNotIssued) && cred.KindOf(err) == cred.Unavailable; open == tc.certain || tries < 2 {
					t.Errorf("%v after %d tries", err, tries)
				}
			})
		}
	}
}

// TestLostFederatedToken holds that max_life, which bounds a service account's token alone, does not
// shorten what may have become of a federated one.
func TestLostFederatedToken(t *testing.T) {
	c := newCloud(t)
	cfg := config(c.URL)
	cfg.MaxLife = 10 * time.Minute
	i := open(t, cfg)
	asked := time.Now()
	_, l, err := i.Issue(t.Context(), spec(time.Hour, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := i.Lost(asked); end.Before(l.NotAfter) {
		t.Errorf("a lost token is said to end at %v, one that was not ends at %v", end, l.NotAfter)
	}
}

// TestWaitShortensTheLife holds that a token which was asked for again after a wait ends no later than the
// grant.
func TestWaitShortensTheLife(t *testing.T) {
	c := newCloud(t)
	tries := 0
	c.answer = func(w http.ResponseWriter, path string) bool {
		if path != "generate" {
			return false
		}
		tries++
		if tries == 1 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return tries == 1
	}
	if _, _, err := open(t, config(c.URL)).Issue(t.Context(), spec(10*time.Minute, account, nil)); err != nil {
		t.Fatal(err)
	}
	if life := c.bodies[1]["lifetime"]; life != "597s" {
		t.Errorf("asked for %v after two seconds of ten minutes", life)
	}
}
