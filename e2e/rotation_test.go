package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
func (c *vaultCluster) rotate(ctx context.Context, name string) (*pb.Rotation, error) {
	sec := c.as(c.person("security"))
	r, err := sec.Rotate(ctx, name, "a test")
	if err != nil {
		return nil, err
	}
	err = sec.WatchRotation(ctx, cred.RotationID(r.GetId()), func(now *pb.Rotation) error { r = now; return nil })
	return r, err
}

// TestRotationUnderLoad rotates the database's root ten times while jobs come at 200 a second, as far as
// the machine can: none is refused, and what each got works until it is revoked, also through the
// rotations that follow.
func TestRotationUnderLoad(t *testing.T) {
	const rotations = 10
	in := newCluster(t)
	in.patient = true
	c := rotatedCluster(t, in)
	load := startLoad(c)
	for n := range rotations {
		r, err := c.rotate(t.Context(), "orders-root")
		if err != nil || r.GetState() != string(cred.RotationDone) {
			t.Fatalf("rotation %d: %v, %v", n, r, err)
		}
	}
	kept, granted, rate, err := load.stop()
	if err != nil {
		t.Error(err)
	}
	for _, g := range kept {
		if err := c.login(g.Credential); err != nil {
			t.Errorf("a credential from before a rotation does not work: %v", err)
		}
	}
	t.Logf("%d grants, %.0f a second, through %d rotations; %d lived through some of them", granted, rate, rotations, len(kept))
	if granted < 20*rotations || len(kept) == 0 {
		t.Error("too few grants to prove anything")
	}
	if n := c.retired(); n != rotations {
		t.Errorf("the log tells of %d retired roots, want %d", n, rotations)
	}
}

// jobLoad are CI jobs that come and go.
type jobLoad struct {
	c       *vaultCluster
	began   time.Time
	end     context.CancelFunc
	done    chan error
	granted atomic.Int64

	mu   sync.Mutex // owns kept
	kept []sdk.Granted
}

const (
	jobsPerSecond = 200
	jobsAtOnce    = 24
	keepEvery     = 20 // of so many grants one is kept
)

func startLoad(c *vaultCluster) *jobLoad {
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &jobLoad{c: c, began: time.Now(), end: cancel, done: make(chan error, 1)}
	clients := make(chan *sdk.Client, jobsAtOnce)
	for range jobsAtOnce {
		clients <- c.as(c.job())
	}
	go func() { l.done <- l.run(ctx, clients) }()
	return l
}

func (l *jobLoad) run(ctx context.Context, clients chan *sdk.Client) error {
	jobs, failed := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Second / jobsPerSecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-failed.Done():
			return jobs.Wait()
		case <-tick.C:
		}
		client := <-clients
		jobs.Go(func() error {
			defer func() { clients <- client }()
			return l.job(context.WithoutCancel(ctx), client, n)
		})
	}
}

// job gets a credential, uses it, and gives it back unless it is one that is kept.
func (l *jobLoad) job(ctx context.Context, client *sdk.Client, n int) error {
	g, err := client.Exchange(ctx, cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "deploy"})
	if err != nil {
		return fmt.Errorf("exchange %d: %w", n, err)
	}
	l.granted.Add(1)
	if err := l.c.login(g.Credential); err != nil {
		return fmt.Errorf("the user of exchange %d can't log in: %w", n, err)
	}
	if n%keepEvery == 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.kept = append(l.kept, g)
		return nil
	}
	_, err = client.Revoke(ctx, cred.GrantID(g.Grant.GetId()), "job done")
	return err
}

func (l *jobLoad) stop() (kept []sdk.Granted, granted int64, rate float64, err error) {
	rate = float64(l.granted.Load()) / time.Since(l.began).Seconds()
	l.end()
	err = <-l.done
	return l.kept, l.granted.Load(), rate, err
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
				c.broker.kill()
				c.startBroker("DAYPASS_FAILPOINT=rotate." + string(step) + "." + point)
				r, err := c.as(c.person("security")).Rotate(t.Context(), "orders-root", "a test")
				if err != nil && cred.KindOf(err) != cred.Unavailable {
					t.Fatal(err)
				}
				c.broker.ended()
				c.startBroker()
				sec := c.as(c.person("security"))
				if r == nil { // the answer was lost
					all, err := sec.Rotations(t.Context(), 1)
					if err != nil || len(all) == 0 {
						t.Fatalf("no rotation is journaled: %v", err)
					}
					r = all[0]
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err = sec.WatchRotation(ctx, cred.RotationID(r.GetId()), func(now *pb.Rotation) error { r = now; return nil })
				if err != nil || r.GetState() != string(cred.RotationDone) {
					t.Fatalf("the rotation stands as %v, %v", r, err)
				}
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
func (c *vaultCluster) onceEach(id string) {
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
