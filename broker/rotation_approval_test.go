package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// byTwo demands two people of the leads.
func byTwo(r *Root) {
	r.Demand = &cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 2}}, Within: time.Hour}
}

// asLead is the one who rotates, who is also among those who are asked.
var askingLead = person("asking", "security", "leads")

func (r *rotating) ask() cred.Rotation {
	r.t.Helper()
	rot, err := r.Rotate(context.Background(), as(askingLead), "db-root", "leaked")
	r.must(err)
	if rot.State() != cred.RotationPending || rot.Grant == "" {
		r.t.Fatalf("the rotation is %s", rot.State())
	}
	return rot
}

func (r *rotating) grantOf(rot cred.Rotation) (g cred.Grant) {
	r.t.Helper()
	r.must(r.sealed.View(context.Background(), func(tx store.Tx) (err error) {
		g, err = getGrant(tx, rot.Grant)
		return err
	}))
	return g
}

// A rotation whose root demands it waits for two people, neither of whom asked for it; their approvals
// are used once.
func TestRotationNeedsApproval(t *testing.T) {
	w := newRotating(t, byTwo)
	rot := w.ask()
	w.advance()
	g := w.grantOf(rot)
	if open, err := w.ListRequests(t.Context(), lead); err != nil || len(open) != 1 || open[0].Grant.Want.Target != "rotation:db-root" {
		t.Errorf("the requests %+v, %v", open, err)
	}
	if n := w.told(notice.RequestPending); len(n) != 1 || n[0].Digest == "" || !slices.Equal(n[0].Groups, []string{"leads"}) {
		t.Errorf("notices %+v", n)
	}
	_, err := w.review(askingLead, g, true)
	refusedAs(t, err, cred.Denied, "OWN_REQUEST")
	_, err = w.review(nosy, g, true)
	refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
	_, err = w.review(lead, g, true)
	w.must(err)
	_, err = w.review(lead, g, true)
	refusedAs(t, err, cred.Conflict, "ALREADY_REVIEWED")
	w.advance()
	if got := w.get(rot.ID); got.State() != cred.RotationPending || w.root.count("check") != 0 {
		t.Fatalf("with one approval it is %s", got.State())
	}
	_, err = w.review(both, g, true)
	w.must(err)
	if got := w.get(rot.ID); got.State() != cred.RotationRunning {
		t.Fatalf("approved, it is %s", got.State())
	}
	if got := w.grantOf(rot); got.State() != cred.GrantActive {
		t.Errorf("its grant is %s", got.State())
	}
	if started, err := w.startRotation(t.Context(), rot.ID); started || err != nil {
		t.Errorf("it was started again: %v", err)
	}
	end := w.finish(rot.ID)
	w.wantEnd(end, cred.RotationDone)
	w.wantSteps(rot.ID, append([]string{"intent asked"}, goodSteps...)...)
	if got := w.grantOf(rot); got.State() != cred.GrantRevoked {
		t.Errorf("when all is over, its grant is %s", got.State())
	}
	text, err := audit.OpenReceipt([]byte(end.Receipt), w.signer.VerifierKey())
	if w.must(err); strings.Count(text, "\napproved ") != 2 || !strings.Contains(text, "request "+string(rot.Grant)+" sha256:"+g.Digest.String()) {
		t.Errorf("the receipt:\n%s", text)
	}
}

// The sweep starts what was approved while the review could not.
func TestApprovedRotationIsStartedByTheSweep(t *testing.T) {
	w := newRotating(t, byTwo)
	rot := w.ask()
	g := w.grantOf(rot)
	_, err := w.review(lead, g, true)
	w.must(err)
	w.store.plan(works, notDone) // the verdict is written, and what follows is not
	_, err = w.review(both, g, true)
	w.must(err)
	if got := w.get(rot.ID); got.State() != cred.RotationPending {
		t.Fatalf("it is %s", got.State())
	}
	w.wantEnd(w.finish(rot.ID), cred.RotationDone)
}

// The grant that stands for a rotation gives nobody a credential, in no state and by no call.
func TestRotationGrantGivesNothing(t *testing.T) {
	w := newRotating(t, byTwo)
	rot := w.ask()
	want := w.grantOf(rot).Want
	try := func(state cred.GrantState) {
		t.Helper()
		ctx := t.Context()
		g := w.grantOf(rot)
		if g.State() != state {
			t.Fatalf("the grant is %s, want %s", g.State(), state)
		}
		for name, call := range map[string]func() error{
			"redeem":   func() error { _, err := w.RedeemGrant(ctx, askingLead, g.ID); return err },
			"proxy":    func() error { _, err := w.RedeemGrant(ctx, edge, g.ID); return err },
			"exchange": func() error { _, err := w.Exchange(ctx, as(askingLead), want); return err },
			"renew":    func() error { _, err := w.Renew(ctx, as(askingLead), g.ID, 0); return err },
			"deliver": func() error {
				got, err := w.Deliver(ctx, as(askingLead), want, g.ID)
				if err == nil && got.Token.IsZero() && got.Redeemed == nil {
					err = errors.New("nothing but how it stands")
				}
				return err
			},
			"sign": func() error { _, err := w.GrantToken(g); return err },
			"token": func() error {
				tok, err := w.GrantToken(g)
				if err == nil {
					_, err = w.Redeem(ctx, askingLead, tok.RevealString())
				}
				return err
			},
		} {
			if call() == nil {
				t.Errorf("%s: a grant of a rotation that is %s gives something", name, state)
			}
		}
		if _, err := w.Claim(ctx, as(askingLead), g.ID, want); err == nil && (state == cred.GrantApproved || state == cred.GrantDenied) {
			t.Error("it was claimed")
		}
		if got := w.grantOf(rot); got.State() != state || w.count(store.Leases) != 0 {
			t.Errorf("the grant is %s, and there are %d leases", got.State(), w.count(store.Leases))
		}
	}
	try(cred.GrantPending)
	g := w.grantOf(rot)
	_, err := w.review(lead, g, true)
	w.must(err)
	w.store.plan(works, notDone)
	_, err = w.review(both, g, true)
	w.must(err)
	try(cred.GrantApproved)
	w.root.plan("check", waits)
	w.advance()
	try(cred.GrantActive)
	w.wantEnd(w.finish(rot.ID), cred.RotationDone)
	try(cred.GrantRevoked)
}

// What nobody approves does not happen, whatever the reason.
func TestRotationRefused(t *testing.T) {
	for name, end := range map[string]func(w *rotating, rot cred.Rotation){
		"an approver refused": func(w *rotating, rot cred.Rotation) {
			_, err := w.review(lead, w.grantOf(rot), false)
			w.must(err)
		},
		"nobody approved it in time": func(w *rotating, _ cred.Rotation) {
			w.clock.advance(time.Hour)
			w.sweep()
			w.advance()
		},
		"was taken back": func(w *rotating, rot cred.Rotation) {
			_, _, err := w.Revoke(context.Background(), askingLead, rot.Grant, "a mistake")
			w.must(err)
			w.advance()
		},
		"not configured any more": func(w *rotating, rot cred.Rotation) {
			w.roots = nil
			w.start()
			w.approve(rot)
		},
		"has changed since": func(w *rotating, rot cred.Rotation) {
			w.roots[0].Demand = &cred.Demand{AllOf: []cred.Quorum{{Group: "secteam", Count: 2}}, Within: time.Hour}
			w.start()
			w.approve(rot)
		},
		"may not rotate roots any more": func(w *rotating, rot cred.Rotation) {
			src := rules()
			src.Roles = map[string]string{"auditor": src.Roles["auditor"], "security": `"nobody" in principal.groups`}
			set, problems := policy.Compile(src)
			if problems != nil {
				w.t.Fatalf("%v", problems)
			}
			w.must(w.SetPolicy(context.Background(), set))
			w.approve(rot)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRotating(t, byTwo)
			rot := w.ask()
			end(w, rot)
			got := w.get(rot.ID)
			w.wantEnd(got, cred.RotationRefused)
			if !strings.Contains(got.Why, name) || len(w.root.calls) > 0 || !w.grantOf(rot).Over() {
				t.Errorf("why %q; the grant is %s", got.Why, w.grantOf(rot).State())
			}
			w.wantSteps(rot.ID, "intent asked", "intent refused")
		})
	}
}

func (r *rotating) approve(rot cred.Rotation) {
	r.t.Helper()
	for _, who := range []cred.Principal{lead, both} {
		_, err := r.review(who, r.grantOf(rot), true)
		r.must(err)
	}
	r.advance()
}

// A lock on who asks, or on the root, keeps it from being rotated; one on everything does not.
func TestRotationLocked(t *testing.T) {
	for name, c := range map[string]struct {
		lock Lock
		may  bool
	}{
		"who":        {Lock{Subject: "guard"}, false},
		"the root":   {Lock{Target: "rotation:db-root"}, false},
		"another":    {Lock{Target: "db"}, true},
		"everything": {Lock{}, true},
	} {
		w := newRotating(t)
		c.lock.Reason = "leaked"
		_, _, err := w.Lock(t.Context(), security, c.lock, 0)
		w.must(err)
		_, err = w.Rotate(t.Context(), as(security), "db-root", "")
		if c.may {
			w.must(err)
			continue
		}
		if e := refusedAs(t, err, cred.Denied, "LOCKED"); e == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
