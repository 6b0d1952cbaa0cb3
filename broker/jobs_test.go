package broker

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// fakeJobs knows which jobs are over, by subject.
type fakeJobs struct {
	mu    sync.Mutex
	over  map[string]string
	fails map[string]error
	asked []string
	asks  func() // called by each question; nil: nothing
}

func (j *fakeJobs) Ended(_ context.Context, p cred.Principal) (bool, string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, p.Subject)
	if j.asks != nil {
		j.asks()
	}
	why, over := j.over[p.Subject]
	return over, why, j.fails[p.Subject]
}

func watchingJobs(t *testing.T) (*world, *fakeJobs) {
	w := newWorld(t)
	j := &fakeJobs{over: map[string]string{}, fails: map[string]error{}}
	w.change = func(c *Config) { c.Jobs = j }
	w.start()
	return w, j
}

// The grants of a job end with it, and its credentials with them; those of others live on.
func TestJobEnds(t *testing.T) {
	w, j := watchingJobs(t)
	got, err := w.deliver("db")
	w.wantDelivered(got, err)
	other, err := w.Deliver(t.Context(), as(neighbour), cred.Request{Target: "db"}, "")
	w.wantDelivered(other, err)
	w.endOfJobs(t.Context(), nil)
	w.wantLive("vault", 2)
	j.over[runner.Subject] = "its runner was lost"
	w.endOfJobs(t.Context(), nil)
	w.wantLive("vault", 1)
	g, leases, err := w.GetGrant(t.Context(), runner, got.Grant.ID)
	w.must(err)
	if g.State() != cred.GrantRevoked || g.EndReason != "the job has ended: its runner was lost" {
		t.Errorf("the grant is %s: %s", g.State(), g.EndReason)
	}
	w.wantState(leases[0], cred.LeaseRevoked)
	revoked := w.eventsOf(audit.GrantRevoked)
	if len(revoked) != 1 || revoked[0].Principal.Provider != "daypass" || revoked[0].Principal.Subject != "broker" || revoked[0].Principal.Issuer != brokerURL {
		t.Errorf("recorded %+v", revoked)
	}
	j.asked = nil
	w.endOfJobs(t.Context(), nil)
	if len(j.asked) != 1 || j.asked[0] != neighbour.Subject {
		t.Errorf("asked for %v, though one grant is left", j.asked)
	}
}

// People's grants are nobody's job's.
func TestPeopleAreNoJobs(t *testing.T) {
	w, j := watchingJobs(t)
	w.request(lead)
	j.over[lead.Subject] = "it is over"
	w.endOfJobs(t.Context(), nil)
	if len(j.asked) != 0 {
		t.Errorf("asked for %v", j.asked)
	}
	asked := w.request(runner) // a request waits no longer than its job
	j.over[runner.Subject] = ""
	w.endOfJobs(t.Context(), nil)
	if g, _, err := w.GetGrant(t.Context(), runner, asked.ID); err != nil || g.State() != cred.GrantRevoked || g.EndReason != "the job has ended" {
		t.Errorf("the request is %s (%s), %v", g.State(), g.EndReason, err)
	}
}

// A job that gives its grant back while its end is noticed has done nothing wrong, and nor has anybody.
func TestJobEndsItself(t *testing.T) {
	w, j := watchingJobs(t)
	g, _ := w.grant("db")
	j.over[runner.Subject] = "done"
	j.asks = func() {
		_, _, err := w.Revoke(context.Background(), runner, g.ID, "the job is done")
		w.must(err)
	}
	w.endOfJobs(t.Context(), nil)
	if strings.Contains(w.log.String(), "could not be ended") {
		t.Errorf("logged as a failure: %s", w.log.String())
	}
}

// A rotation that a job asked for waits for people, and not for the job.
func TestRotationOutlivesItsJob(t *testing.T) {
	w := newRotating(t, byTwo)
	j := &fakeJobs{over: map[string]string{}, fails: map[string]error{}}
	before := w.change
	w.change = func(c *Config) { before(c); c.Jobs = j }
	w.start()
	nightly := person("nightly", "security")
	nightly.Kind = cred.KindWorkload
	rot, err := w.Rotate(t.Context(), as(nightly), "db-root", "each night")
	w.must(err)
	j.over[nightly.Subject] = "done"
	w.endOfJobs(t.Context(), nil)
	w.approve(rot)
	w.wantEnd(w.finish(rot.ID), cred.RotationDone)
}

// What nobody knows changes nothing, and is told once, until it is over.
func TestJobProblems(t *testing.T) {
	w, j := watchingJobs(t)
	g, _ := w.grant("db")
	h, err := w.Exchange(t.Context(), as(neighbour), cred.Request{Target: "db"})
	w.must(err)
	away := cred.Errorf(cred.Unavailable, "jobs", "the forge does not answer", "no route")
	j.fails[runner.Subject], j.fails[neighbour.Subject] = away, away
	var known map[string]bool
	for range 3 {
		known = w.endOfJobs(t.Context(), known)
	}
	if n := strings.Count(w.log.String(), "nobody knows whether a job is over"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	for _, id := range []cred.GrantID{g.ID, h.ID} {
		if got, _, err := w.GetGrant(t.Context(), auditor, id); err != nil || got.State() != cred.GrantActive {
			t.Errorf("a grant is %s, %v", got.State(), err)
		}
	}
	clear(j.fails)
	for range 2 {
		known = w.endOfJobs(t.Context(), known)
	}
	if n := strings.Count(w.log.String(), "can be asked for again"); n != 1 {
		t.Errorf("logged %d times that it works again", n)
	}
	j.fails[runner.Subject] = away
	w.endOfJobs(t.Context(), known)
	if n := strings.Count(w.log.String(), "nobody knows whether a job is over"); n != 2 {
		t.Errorf("logged %d times", n)
	}
}

// A watcher that dies at any step leaves nothing that the next one does not end.
func TestJobEndDiesAtEachStep(t *testing.T) {
	j := &fakeJobs{over: map[string]string{runner.Subject: "it was cancelled"}}
	dieAtEachStep(t, "db", func(w *world) func() {
		w.change = func(c *Config) { c.Jobs = j }
		w.start()
		got, err := w.deliver("db")
		w.wantDelivered(got, err)
		return func() { w.endOfJobs(context.Background(), nil) }
	}, func(w *world) int {
		if w.revoked() {
			return 0
		}
		w.endOfJobs(context.Background(), nil) // it did not get that far: the next one does
		w.wantLive("vault", 0)
		return 1
	})
}

// Run watches by itself.
func TestRunWatchesJobs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := buildWorld(t, dir, time.Now)
		j := &fakeJobs{over: map[string]string{}}
		w.change = func(c *Config) { c.Jobs = j }
		w.start()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		got, err := w.deliver("db")
		w.wantDelivered(got, err)
		time.Sleep(time.Minute + time.Second)
		j.mu.Lock()
		j.over[runner.Subject] = "done"
		if len(j.asked) != 2 {
			t.Errorf("asked %d times in a minute", len(j.asked))
		}
		j.mu.Unlock()
		w.wantLive("vault", 1)
		time.Sleep(30 * time.Second)
		w.wantLive("vault", 0)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}
