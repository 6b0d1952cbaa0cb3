package broker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
)

// leased makes a lease of the issuer vault, and one of another.
func (r *rotating) leased() (ours, other cred.Lease) {
	r.t.Helper()
	var got []cred.Lease
	for _, target := range []string{"db", "plain"} {
		_, tok := r.grant(target)
		d, err := r.redeem(target, tok)
		r.must(err)
		got = append(got, d.Lease)
	}
	r.clock.advance(time.Second)
	return got[0], got[1]
}

// settledTo runs a rotation as long as its drain takes, with the sweep beside it, and returns when it
// was over.
func (r *rotating) settledTo(id cred.RotationID) time.Duration {
	r.t.Helper()
	begun := r.now()
	for range 200 {
		r.advance()
		if r.get(id).Over() {
			return r.now().Sub(begun)
		}
		r.sweep()
		r.clock.advance(15 * time.Second)
	}
	r.t.Fatalf("it never ends: %s", r.get(id).Why)
	return 0
}

func old(mode OldLeases) func(*Root) { return func(r *Root) { r.OldLeases = mode } }

func TestDrainKeeps(t *testing.T) {
	w := newRotating(t)
	ours, _ := w.leased()
	if took := w.settledTo(w.begin().ID); took != 0 {
		t.Errorf("it waited %v", took)
	}
	w.wantState(w.lease(ours.Grant), cred.LeaseIssued)
	for _, e := range w.stepEvents("drain") {
		if counts, _ := e["leases"].(map[string]any); counts["issued"] == nil || e["old_leases"] != "keep" {
			t.Errorf("the entry %v", e)
		}
	}
}

// stepEvents returns the details of the entries of a step.
func (r *rotating) stepEvents(step string) (all []map[string]any) {
	r.t.Helper()
	for _, e := range r.events() {
		if e.Rotation != nil && e.Rotation.Step == step {
			all = append(all, e.Detail)
		}
	}
	if len(all) == 0 {
		r.t.Errorf("no entry of the step %s", step)
	}
	return all
}

// The old root stays until what it minted has ended; what the new one minted counts for nothing.
func TestDrainWaits(t *testing.T) {
	w := newRotating(t, old(OldLeasesWait))
	ours, _ := w.leased()
	id := w.begin().ID
	w.advance()
	rot := w.get(id)
	if rot.Step() != cred.StepDrain || !strings.Contains(rot.Why, "1 issued") || !w.root.old {
		t.Fatalf("the rotation is at %s: %s", rot.Step(), rot.Why)
	}
	w.clock.advance(time.Minute)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.settledTo(id)
	w.wantEnd(w.get(id), cred.RotationDone)
	if w.now().Before(ours.NotAfter) || w.now().After(ours.NotAfter.Add(2*time.Minute)) {
		t.Errorf("it was over at %v, and the last lease ended at %v", w.now(), ours.NotAfter)
	}
	w.wantState(w.lease(g.ID), cred.LeaseIssued)
	w.wantTold(notice.RotationStuck, 0)
	w.wantTold(notice.RotationWaits, 0)
}

func TestDrainRevokes(t *testing.T) {
	w := newRotating(t, old(OldLeasesRevoke))
	ours, other := w.leased()
	id := w.begin().ID
	w.sources["vault"].plan("revoke", notDone)
	took := w.settledTo(id)
	w.wantState(w.lease(ours.Grant), cred.LeaseRevoked)
	w.wantState(w.lease(other.Grant), cred.LeaseIssued)
	if took > 5*time.Minute {
		t.Errorf("it took %v", took)
	}
	w.wantEnd(w.get(id), cred.RotationDone)
	if _, _, err := w.GetGrant(context.Background(), runner, ours.Grant); err != nil {
		t.Error(err)
	}
}

// someRoot makes the credentials of one path.
type someRoot struct {
	*fakeRoot
	path string
}

func (r someRoot) Covers(path string) bool { return path == r.path }

// A root that makes the credentials of some paths alone ends those, and is named by their targets.
func TestDrainRevokesWhatTheRootCovers(t *testing.T) {
	w := newRotating(t, old(OldLeasesRevoke), func(r *Root) { r.Rotator = someRoot{r.Rotator.(*fakeRoot), "creds/db"} })
	var leases []cred.Lease
	for _, target := range []string{"db", "rare"} {
		_, tok := w.grant(target)
		d, err := w.redeem(target, tok)
		w.must(err)
		leases = append(leases, d.Lease)
	}
	w.clock.advance(time.Second)
	_, err := w.Rotate(t.Context(), as(security), "rare", "")
	refusedAs(t, err, cred.NotFound, "ROOT_UNKNOWN")
	r, err := w.Rotate(t.Context(), as(security), "db", "")
	w.must(err)
	w.settledTo(r.ID)
	w.wantState(w.lease(leases[0].Grant), cred.LeaseRevoked)
	w.wantState(w.lease(leases[1].Grant), cred.LeaseIssued)
}

// What a source can't end is waited for, also where it is to be ended, and what does not end though it
// should alarms people.
func TestDrainOfWhatStays(t *testing.T) {
	w := newRotating(t, func(r *Root) { r.Issuer, r.OldLeases = "fixed", OldLeasesRevoke })
	_, tok := w.grant("fixed")
	d, err := w.redeem("fixed", tok)
	w.must(err)
	w.clock.advance(time.Second)
	id := w.begin().ID
	w.settledTo(id)
	if w.now().Before(d.Lease.NotAfter) {
		t.Error("the old root was retired before what it minted ended")
	}
	w = newRotating(t, func(r *Root) { r.Issuer, r.OldLeases = "endless", OldLeasesRevoke })
	_, tok = w.grant("endless")
	_, err = w.redeem("endless", tok)
	w.must(err)
	w.clock.advance(time.Second)
	id = w.begin().ID
	w.sources["endless"].plan("revoke", slices.Repeat([]fault{notDone}, 1000)...)
	for range 80 {
		w.advance()
		w.clock.advance(15 * time.Second)
	}
	if rot := w.get(id); rot.Step() != cred.StepDrain || !rot.Alarmed || len(w.told(notice.RotationStuck)) != 1 || !w.root.old {
		t.Errorf("the rotation is at %s, alarmed %v: %s", rot.Step(), rot.Alarmed, rot.Why)
	}
	w.sources["endless"].mu.Lock()
	w.sources["endless"].next = map[string][]fault{}
	w.sources["endless"].mu.Unlock()
	w.settledTo(id)
}

// A credential that is being issued while its root's leases are revoked is not pulled from under who
// asked for it.
func TestDrainLetsIssuingBe(t *testing.T) {
	w := newRotating(t, old(OldLeasesRevoke))
	g, tok := w.grant("db")
	w.sources["vault"].during = duringIssue(func() {
		w.sources["vault"].during = nil
		w.clock.advance(time.Second)
		w.begin()
		w.advance()
	})
	_, err := w.redeem("db", tok)
	w.must(err)
	w.wantState(w.lease(g.ID), cred.LeaseIssued)
	id := w.only().ID
	w.settledTo(id)
	w.wantState(w.lease(g.ID), cred.LeaseRevoked)
}

// The old root is not retired before the instant that its rotator names.
func TestRetireAfter(t *testing.T) {
	w := newRotating(t)
	w.root.keep = 6 * time.Hour
	id := w.begin().ID
	w.advance()
	rot := w.get(id)
	if rot.Step() != cred.StepRetire || !rot.NextAt.Equal(noon.Add(6*time.Hour)) || !strings.Contains(rot.Why, "is kept until") {
		t.Fatalf("the rotation waits at %s until %v: %s", rot.Step(), rot.NextAt, rot.Why)
	}
	w.wantEnd(w.finish(id), cred.RotationDone)
	w.wantTold(notice.RotationWaits, 0)
}

// Two roots of one issuer are rotated one after the other; one of another issuer does not wait.
func TestRootsOfOneIssuer(t *testing.T) {
	w := newRotating(t)
	second, far := newFakeRoot(), newFakeRoot()
	w.roots = append(w.roots, Root{Name: "second", Rotator: second, Issuer: "vault"}, Root{Name: "far", Rotator: far, Issuer: "plain"})
	w.start()
	w.root.plan("switch", notDone)
	first := w.begin()
	w.advance()
	ctx := t.Context()
	_, err := w.Rotate(ctx, as(security), "vault", "")
	if e := refusedAs(t, err, cred.Invalid, "ROOT_AMBIGUOUS"); !strings.Contains(e.Public, "db-root, second") {
		t.Errorf("%s", e.Public)
	}
	next, err := w.Rotate(ctx, as(security), "second", "")
	w.must(err)
	other, err := w.Rotate(ctx, as(security), "far", "")
	w.must(err)
	_, findings, err := w.CheckRotation(ctx, as(security), "second")
	if last := findings[len(findings)-1]; err != nil || last.OK || !strings.Contains(last.Text, string(first.ID)) {
		t.Errorf("findings %+v, %v", findings, err)
	}
	w.advance()
	if rot := w.get(next.ID); rot.Step() != cred.StepCheck || !strings.Contains(rot.Why, string(first.ID)) || second.count("check") != 1 {
		t.Errorf("the second is at %s: %s", rot.Step(), rot.Why)
	}
	w.wantEnd(w.get(other.ID), cred.RotationDone)
	w.wantEnd(w.finish(first.ID), cred.RotationDone)
	w.wantEnd(w.finish(next.ID), cred.RotationDone)
	w.wantTold(notice.RotationWaits, 0)
}
