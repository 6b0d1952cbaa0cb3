package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// rotationPolicy is what rotating the database's root needs beside vaultPolicy.
const rotationPolicy = vaultPolicy + `
path "database/config/pg" { capabilities = ["read"] }
path "database/rotate-root/pg" { capabilities = ["update"] }
path "database/reset/pg" { capabilities = ["update"] }
`

// rotatedCluster is a vaultCluster whose Vault has a user of its own at the database, as which it makes
// the others: a root that the broker has rotated.
func rotatedCluster(t *testing.T, in *cluster) *vaultCluster {
	t.Helper()
	c := vaultClusterIn(t, in)
	c.vault.DatabaseRoot(t, c.pg, "vault_root")
	c.vault.Policy(t, "daypass", rotationPolicy)
	c.broker.kill()
	c.addSections(fmt.Sprintf(`
rotations:
  - name: orders-root
    vault_root:
      issuer: prod-vault
      path: database/rotate-root/pg
      verify: { path: %s, postgres: "postgres://%s/%s?sslmode=disable", allow_plain: true }
`, credsPath, c.pg.Addr(), c.pg.Database))
	c.startBroker()
	return c
}

// rotate rotates a root, and waits until that is over.
func (c *cluster) rotate(ctx context.Context, name string) (*pb.Rotation, error) {
	r, err := c.as(c.person("security")).Rotate(ctx, name, "a test")
	if err != nil {
		return nil, err
	}
	return c.watch(ctx, r)
}

// watch waits until a rotation is over, and calls each of some functions with it at each change.
func (c *cluster) watch(ctx context.Context, r *pb.Rotation, each ...func(*pb.Rotation)) (*pb.Rotation, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	err := c.as(c.person("security")).WatchRotation(ctx, cred.RotationID(r.GetId()), func(now *pb.Rotation) error {
		r = now
		for _, tell := range each {
			tell(now)
		}
		return nil
	})
	return r, err
}

// rotated rotates a root, which must succeed.
func (c *cluster) rotated(name string, each ...func(*pb.Rotation)) *pb.Rotation {
	c.t.Helper()
	r, err := c.as(c.person("security")).Rotate(c.t.Context(), name, "a test")
	if err == nil {
		r, err = c.watch(c.t.Context(), r, each...)
	}
	if err != nil || r.GetState() != string(cred.RotationDone) {
		c.t.Fatalf("the rotation of %s stands as %v, %v", name, r, err)
	}
	return r
}

// rotatedThroughDeath rotates a root with a broker that dies at a point of a step, and waits until another
// one has brought the rotation to its end, which must be good.
func (c *cluster) rotatedThroughDeath(name, point string, env ...string) *pb.Rotation {
	c.t.Helper()
	r := c.diesInRotation(name, point, env...)
	c.startBroker(env...)
	return c.goesOn(r)
}

// diesInRotation begins to rotate a root with a broker that dies at a point of a step. The rotation is nil
// where the answer was lost.
func (c *cluster) diesInRotation(name, point string, env ...string) *pb.Rotation {
	c.t.Helper()
	c.broker.kill()
	c.startBroker(append(env, "DAYPASS_FAILPOINT=rotate."+point)...)
	r, err := c.as(c.person("security")).Rotate(c.t.Context(), name, "a test")
	if err != nil && cred.KindOf(err) != cred.Unavailable {
		c.t.Fatal(err)
	}
	c.broker.ended()
	return r
}

// goesOn waits until a rotation whose broker died has come to its end, which must be good; nil is the one
// that was begun last.
func (c *cluster) goesOn(r *pb.Rotation) *pb.Rotation {
	c.t.Helper()
	if r == nil {
		all, err := c.as(c.person("security")).Rotations(c.t.Context(), 1)
		if err != nil || len(all) == 0 {
			c.t.Fatalf("no rotation is journaled: %v", err)
		}
		r = all[0]
	}
	r, err := c.watch(c.t.Context(), r)
	if err != nil || r.GetState() != string(cred.RotationDone) {
		c.t.Fatalf("the rotation stands as %v, %v", r, err)
	}
	return r
}

// abandonAfter has the next broker begin a step anew that was begun so long ago. Each test that kills a
// broker within a step waits for that; 2s is the least that it takes.
func (c *cluster) abandonAfter(timeout string) {
	c.t.Helper()
	c.write("daypass.yaml", strings.Replace(c.read("daypass.yaml"), "rotation_timeout: 5s", "rotation_timeout: "+timeout, 1))
}

// TestRotationUnderLoad rotates the database's root ten times while jobs ask for 200 credentials a second:
// each that comes until the last rotation is over gets one, jobs are served within each rotation and wait
// through each switch, and each of what they got works after the last rotation.
func TestRotationUnderLoad(t *testing.T) {
	const rotations = 10
	in := newCluster(t)
	in.busy = true
	c := rotatedCluster(t, in)
	load := startLoad(c)
	var rotated []*pb.Rotation
	for n := range rotations {
		r, err := c.rotate(t.Context(), "orders-root")
		if err != nil || r.GetState() != string(cred.RotationDone) {
			t.Fatalf("rotation %d: %v, %v", n, r, err)
		}
		rotated = append(rotated, r)
	}
	due, err := load.stop()
	if err != nil {
		t.Error(err)
	}
	if len(load.served) < due {
		t.Errorf("%d jobs came while the root was rotated, and %d got a credential", due, len(load.served))
	}
	for n, r := range rotated {
		within, through := load.beside(r)
		t.Logf("rotation %d: %d jobs came and were served within it, %d had asked while its root was switched", n, within, through)
		if within == 0 || through == 0 {
			t.Errorf("rotation %d had the root to itself", n)
		}
	}
	var logins errgroup.Group
	logins.SetLimit(4)
	for _, s := range load.served {
		logins.Go(func() error { return c.login(s.credential) })
	}
	if err := logins.Wait(); err != nil {
		t.Errorf("a credential that was minted before the last rotation does not work: %v", err)
	}
	if n := c.retired(); n != rotations {
		t.Errorf("the log tells of %d retired roots, want %d", n, rotations)
	}
}

// jobLoad are CI jobs that come at their times, and ask then, or as soon after as there is room for them.
type jobLoad struct {
	c     *vaultCluster
	began time.Time
	end   chan time.Time // when the last one comes
	done  chan error

	mu     sync.Mutex // owns served
	served []servedJob
}

// servedJob is a job that got a credential.
type servedJob struct {
	asked, served time.Time
	credential    *cred.Credential
}

const (
	jobsPerSecond = 200
	jobsAtOnce    = 48 // so that a machine that can't serve as many a second is not buried
	jobClients    = 24
	tryEvery      = 10 // of so many credentials one is used at once
)

func startLoad(c *vaultCluster) *jobLoad {
	l := &jobLoad{c: c, end: make(chan time.Time, 1), done: make(chan error, 1)}
	clients := make([]*sdk.Client, jobClients)
	for n := range clients {
		clients[n] = c.as(c.job())
	}
	l.began = time.Now()
	go func() { l.done <- l.run(c.t.Context(), clients) }()
	return l
}

// due is how many jobs have come at an instant.
func (l *jobLoad) due(at time.Time) int {
	return int(at.Sub(l.began) * jobsPerSecond / time.Second)
}

// run lets jobs come until the end, and returns once all that came are served, or the first was not.
func (l *jobLoad) run(ctx context.Context, clients []*sdk.Client) error {
	jobs, failed := errgroup.WithContext(ctx)
	jobs.SetLimit(jobsAtOnce)
	tick := time.NewTicker(time.Second / jobsPerSecond)
	defer tick.Stop()
	var last time.Time // when the last one comes; zero: that is not known yet
	for begun := 0; last.IsZero() || begun < l.due(last); {
		var due int
		select {
		case <-failed.Done():
			return jobs.Wait()
		case last = <-l.end:
			due = l.due(last)
		case <-tick.C:
			due = l.due(time.Now())
		}
		for ; begun < due && failed.Err() == nil; begun++ {
			n := begun
			jobs.Go(func() error { return l.job(context.WithoutCancel(ctx), clients[n%jobClients], n) })
		}
	}
	return jobs.Wait()
}

// job gets a credential, and now and then uses it.
func (l *jobLoad) job(ctx context.Context, client *sdk.Client, n int) error {
	asked := time.Now()
	g, err := client.Exchange(ctx, cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "deploy"})
	if err != nil {
		return fmt.Errorf("exchange %d: %w", n, err)
	}
	l.mu.Lock()
	l.served = append(l.served, servedJob{asked, time.Now(), g.Credential})
	l.mu.Unlock()
	if n%tryEvery != 0 {
		return nil
	}
	if err := l.c.login(g.Credential); err != nil {
		return fmt.Errorf("the user of exchange %d can't log in: %w", n, err)
	}
	return nil
}

// stop lets no more jobs come, waits until those that have are served, and returns how many came.
func (l *jobLoad) stop() (due int, err error) {
	now := time.Now()
	l.end <- now
	err = <-l.done
	return l.due(now), err
}

// beside counts the jobs that asked and were served within a rotation, and those that had asked, and had
// nothing yet, at some time while its root was switched.
func (l *jobLoad) beside(r *pb.Rotation) (within, through int) {
	first, last := stepOf(r, cred.StepCheck), stepOf(r, cred.StepRetire)
	change := stepOf(r, cred.StepSwitch)
	for _, s := range l.served {
		if s.asked.After(first.GetBeginTime().AsTime()) && s.served.Before(last.GetEndTime().AsTime()) {
			within++
		}
		if s.asked.Before(change.GetEndTime().AsTime()) && s.served.After(change.GetBeginTime().AsTime()) {
			through++
		}
	}
	return within, through
}

// stepOf returns what a rotation tells of a step; nil where it is not over.
func stepOf(r *pb.Rotation, step cred.RotationStep) *pb.StepRecord {
	for _, s := range r.GetSteps() {
		if s.GetStep() == string(step) {
			return s
		}
	}
	return nil
}

// retired counts the rotations whose old root is gone, as the log tells.
func (c *vaultCluster) retired() int {
	n := 0
	for _, e := range c.export() {
		if e.Kind == audit.RotationStep && e.Rotation.Step == string(cred.StepRetire) && e.Detail["outcome"] == "done" {
			n++
		}
	}
	return n
}

// TestKilledInRotation kills the broker with SIGKILL at every point of every step, starts it again, and
// holds that the rotation comes to its end, that what is minted then works, and that Vault and daypass
// agree about what lives.
func TestKilledInRotation(t *testing.T) {
	c := rotatedCluster(t, newCluster(t))
	steps := cred.RotationSteps()
	for _, step := range steps {
		for _, point := range []string{"before", "after-begin", "after-act", "after-outcome"} {
			t.Run(string(step)+"/"+point, func(t *testing.T) {
				c.t, c.cluster.t = t, t
				r := c.rotatedThroughDeath("orders-root", string(step)+"."+point)
				g, err := c.exchange()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.login(g.Credential); err != nil {
					t.Errorf("after the rotation: %v", err)
				}
				eventually(t, "Vault and daypass agree", c.agree)
				c.onceEach(r.GetId())
			})
		}
	}
}

// onceEach checks that the log tells the end of each step of a rotation once.
func (c *cluster) onceEach(id string) {
	c.t.Helper()
	done := map[string]int{}
	for _, e := range c.export() {
		if e.Kind == audit.RotationStep && e.Rotation.ID == id && e.Detail["outcome"] == "done" {
			done[e.Rotation.Step]++
		}
	}
	for _, step := range cred.RotationSteps() {
		if done[string(step)] != 1 {
			c.t.Errorf("the log tells %d times that %s was done", done[string(step)], step)
		}
	}
}
