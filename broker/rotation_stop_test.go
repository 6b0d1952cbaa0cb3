package broker

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// slowRoot takes its time for some acts, as long as a source at the most that is not hung up on: it works up
// to 90 s on a request, for whose answer 2 min are waited, and it is looked at before.
type slowRoot struct {
	*fakeRoot
	slow  string // the act
	begun chan struct{}
	cut   bool // the act's time ended before it did
}

const slowAct = 150 * time.Second

func (r *slowRoot) takeTime(ctx context.Context, act string) {
	if act != r.slow {
		return
	}
	close(r.begun)
	select {
	case <-ctx.Done():
		r.cut = true
	case <-time.After(slowAct):
	}
}

func (r *slowRoot) Check(ctx context.Context, rot issuer.Rotation) ([]cred.Finding, error) {
	r.takeTime(ctx, "check")
	return r.fakeRoot.Check(ctx, rot)
}

func (r *slowRoot) Prepare(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	r.takeTime(ctx, "prepare")
	return r.fakeRoot.Prepare(ctx, rot)
}

func (r *slowRoot) Switch(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	r.takeTime(ctx, "switch")
	return r.fakeRoot.Switch(ctx, rot)
}

func (r *slowRoot) Verify(ctx context.Context, rot issuer.Rotation) error {
	r.takeTime(ctx, "verify")
	return r.fakeRoot.Verify(ctx, rot)
}

func (r *slowRoot) Retire(ctx context.Context, rot issuer.Rotation) (issuer.Rotation, error) {
	r.takeTime(ctx, "retire")
	return r.fakeRoot.Retire(ctx, rot)
}

func (r *slowRoot) Undo(ctx context.Context, rot issuer.Rotation) error {
	r.takeTime(ctx, "undo")
	return r.fakeRoot.Undo(ctx, rot)
}

// A stop in the middle of an act waits for it, says so, writes what came of it and begins nothing more; the
// next broker goes on from there at once.
func TestStopWaitsForTheStep(t *testing.T) {
	for _, act := range []string{"check", "prepare", "switch", "verify", "retire", "undo"} {
		t.Run(act, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				slow := &slowRoot{slow: act, begun: make(chan struct{})}
				w := withRoots(buildWorld(t, dir, time.Now), func(r *Root) { slow.fakeRoot, r.Rotator = r.Rotator.(*fakeRoot), slow })
				want := cred.RotationDone
				if act == "undo" {
					w.root.broken, want = true, cred.RotationFailed
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				id := w.begin().ID
				<-slow.begun
				began, before := time.Now(), w.root.countAll()
				stop()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
				if took := time.Since(began); slow.cut || took != slowAct {
					t.Errorf("Run returned %v after the stop; the act was cut off: %v", took, slow.cut)
				}
				if rot := w.get(id); w.root.countAll() != before+1 || rot.Step() == cred.RotationStep(act) || rot.Attempt != 0 {
					t.Errorf("it stands at %s, begun %d times, with the calls %q", rot.Step(), rot.Attempt, w.root.calls)
				}
				if out := w.log.String(); !strings.Contains(out, "is waited for") || !strings.Contains(out, "rotation="+string(id)) {
					t.Errorf("the broker's log has %q", out)
				}
				slow.slow = ""
				w.start()
				w.must(w.AdvanceRotations(t.Context()))
				w.wantEnd(w.get(id), want)
				w.check()
				w.close()
			})
		})
	}
}

// A broker whose rotations are held begins no step more, and does all else until it is stopped.
func TestHoldRotations(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		slow := &slowRoot{slow: "switch", begun: make(chan struct{})}
		w := withRoots(buildWorld(t, dir, time.Now), func(r *Root) { slow.fakeRoot, r.Rotator = r.Rotator.(*fakeRoot), slow })
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		g, _ := w.grant("db")
		id := w.begin().ID
		<-slow.begun
		w.HoldRotations()
		time.Sleep(16 * time.Minute)
		if rot := w.get(id); slow.cut || rot.Step() != cred.StepVerify || rot.Attempt != 0 {
			t.Errorf("it stands at %s, begun %d times; the act was cut off: %v", rot.Step(), rot.Attempt, slow.cut)
		}
		if got, _, err := w.GetGrant(ctx, runner, g.ID); err != nil || got.State() != cred.GrantExpired {
			t.Errorf("the grant is %s, %v", got.State(), err)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.check()
		w.close()
	})
}
