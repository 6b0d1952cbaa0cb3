package broker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// events returns the whole log, verified.
func (w *world) events() []audit.Event {
	w.t.Helper()
	ctx := context.Background()
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	w.must(err)
	cp, err := w.disk.Log().Checkpoint(ctx)
	w.must(err)
	var out []audit.Event
	for e, err := range w.disk.Log().Entries(ctx, 0, cp.Size) {
		w.must(err)
		w.must(x.Write(e))
		_, event, err := audit.Parse(e.Canonical)
		w.must(err)
		out = append(out, event)
	}
	w.must(x.Close(audit.Trailer{Note: cp.Note, VerifierKey: w.disk.Log().VerifierKey()}))
	if _, err := audit.Verify(&file, audit.VerifyOptions{VerifierKey: w.signer.VerifierKey()}); err != nil {
		w.t.Fatalf("the log does not verify: %v", err)
	}
	return out
}

// eventsOf returns the events of some kinds.
func (w *world) eventsOf(kinds ...audit.Kind) []audit.Event {
	w.t.Helper()
	return slices.DeleteFunc(w.events(), func(e audit.Event) bool { return !slices.Contains(kinds, e.Kind) })
}

// lastOf returns the last event, which must be of a kind.
func (w *world) lastOf(kind audit.Kind) audit.Event {
	w.t.Helper()
	all := w.events()
	last := all[len(all)-1]
	if last.Kind != kind {
		w.t.Fatalf("the last entry is %s, want %s", last.Kind, kind)
	}
	return last
}

// From which states an entry may lead to its own.
var (
	grantSteps = map[audit.Kind]struct {
		to   cred.GrantState
		from []cred.GrantState
	}{
		audit.ExchangePending: {cred.GrantPending, []cred.GrantState{""}},
		audit.RequestReviewed: {"", []cred.GrantState{cred.GrantPending, cred.GrantApproved}}, // the entry tells
		audit.ExchangeGranted: {cred.GrantActive, []cred.GrantState{"", cred.GrantApproved}},
		audit.GrantRevoked:    {cred.GrantRevoked, []cred.GrantState{cred.GrantActive, cred.GrantPending, cred.GrantApproved}},
		audit.GrantExpired:    {cred.GrantExpired, []cred.GrantState{cred.GrantActive, cred.GrantPending, cred.GrantApproved}},
	}
	leaseSteps = map[audit.Kind]struct {
		to   cred.LeaseState
		from []cred.LeaseState
	}{
		audit.LeaseIntent:     {cred.LeaseIntent, []cred.LeaseState{""}},
		audit.LeaseIssued:     {cred.LeaseIssued, []cred.LeaseState{cred.LeaseIntent}},
		audit.LeaseFailed:     {cred.LeaseFailed, []cred.LeaseState{cred.LeaseIntent}},
		audit.LeaseRevoking:   {cred.LeaseRevoking, []cred.LeaseState{cred.LeaseIntent, cred.LeaseIssued}},
		audit.LeaseUnknown:    {cred.LeaseUnknown, []cred.LeaseState{cred.LeaseIntent, cred.LeaseRevoking}},
		audit.LeaseRevoked:    {cred.LeaseRevoked, []cred.LeaseState{cred.LeaseRevoking, cred.LeaseUnknown}},
		audit.LeaseRenewing:   {cred.LeaseIssued, []cred.LeaseState{cred.LeaseIssued}},
		audit.LeaseRenewed:    {cred.LeaseIssued, []cred.LeaseState{cred.LeaseIssued}},
		audit.LeaseNotRenewed: {cred.LeaseIssued, []cred.LeaseState{cred.LeaseIssued}},
		audit.LeaseMissing:    {cred.LeaseRevoking, []cred.LeaseState{cred.LeaseIssued}},
		audit.LeaseExpired:    {cred.LeaseExpired, []cred.LeaseState{cred.LeaseIssued, cred.LeaseUnknown, cred.LeaseRevoking}},
	}
	ownSteps = map[audit.Kind]struct {
		to   cred.LeaseState
		from []cred.LeaseState
	}{
		audit.OwnIntent:   {cred.LeaseIntent, []cred.LeaseState{""}},
		audit.OwnIssued:   {cred.LeaseIssued, []cred.LeaseState{cred.LeaseIntent}},
		audit.OwnFailed:   {cred.LeaseFailed, []cred.LeaseState{cred.LeaseIntent}},
		audit.OwnUnknown:  {cred.LeaseUnknown, []cred.LeaseState{cred.LeaseIntent, cred.LeaseIssued}},
		audit.OwnRevoking: {cred.LeaseRevoking, []cred.LeaseState{cred.LeaseIntent, cred.LeaseIssued, cred.LeaseUnknown}},
		// After another state than revoking, the store did not take the entry before.
		audit.OwnRevoked: {cred.LeaseRevoked, []cred.LeaseState{cred.LeaseRevoking, cred.LeaseIntent, cred.LeaseIssued, cred.LeaseUnknown}},
	}
)

// replayOwn follows what the broker minted for itself: each step has the one before it, and none has a
// grant.
func (w *world) replayOwn() map[cred.LeaseID]cred.LeaseState {
	w.t.Helper()
	own := map[cred.LeaseID]cred.LeaseState{}
	for i, e := range w.events() {
		step, ok := ownSteps[e.Kind]
		if !ok {
			continue
		}
		if !slices.Contains(step.from, own[e.Lease.ID]) || e.Lease.State != string(step.to) || e.Grant != "" {
			w.t.Fatalf("entry %d: %s, state %s, grant %q, of one that was %q", i, e.Kind, e.Lease.State, e.Grant, own[e.Lease.ID])
		}
		own[e.Lease.ID] = step.to
	}
	return own
}

// replay holds the log against the records: each change has its entry, in order, and no other.
func (w *world) replay() (map[cred.GrantID]cred.Grant, map[cred.LeaseID]cred.Lease) {
	w.t.Helper()
	grants, leases := map[cred.GrantID]cred.GrantState{}, map[cred.LeaseID]cred.LeaseState{}
	asked := renewals{}
	for i, e := range w.events() {
		if step, ok := grantSteps[e.Kind]; ok {
			if !slices.Contains(step.from, grants[e.Grant]) {
				w.t.Fatalf("entry %d: %s of a grant that is %q", i, e.Kind, grants[e.Grant])
			}
			grants[e.Grant] = step.to
			if e.Kind == audit.RequestReviewed {
				state, _ := e.Detail["state"].(string)
				grants[e.Grant] = cred.GrantState(state)
			}
		}
		if step, ok := leaseSteps[e.Kind]; ok {
			id := e.Lease.ID
			if !slices.Contains(step.from, leases[id]) || e.Lease.State != string(step.to) {
				w.t.Fatalf("entry %d: %s, state %s, of a lease that was %q", i, e.Kind, e.Lease.State, leases[id])
			}
			if e.Kind == audit.LeaseIntent && grants[e.Grant] != cred.GrantActive {
				w.t.Fatalf("entry %d: an intent under a grant that is %q", i, grants[e.Grant])
			}
			leases[id] = step.to
			if wrong := asked.follow(e); wrong != "" {
				w.t.Fatalf("entry %d: %s", i, wrong)
			}
		}
	}
	return w.records(grants, leases, asked)
}

// renewals is until when sources were asked to let leases live, as the log tells it; an end that was
// recorded since ends the entry.
type renewals map[cred.LeaseID]time.Time

// follow takes an entry in. It returns what is wrong with it: each outcome has its intent, and each end
// that is asked for is told once.
func (r renewals) follow(e audit.Event) string {
	id := e.Lease.ID
	_, asked := r[id]
	switch e.Kind {
	case audit.LeaseRenewing:
		text, _ := e.Detail["asked_until"].(string)
		until, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || asked {
			return fmt.Sprintf("a renewal until %q of a lease that was asked for already: %v (%v)", text, asked, err)
		}
		r[id] = until
	case audit.LeaseRenewed, audit.LeaseNotRenewed:
		if !asked {
			return string(e.Kind) + " without its intent"
		}
		if e.Kind == audit.LeaseRenewed {
			delete(r, id)
		}
	}
	return ""
}

// tells reports whether the log has the end that was asked for of a lease. An entry that says that a
// lease is renewed no more, or is over, leaves open whether an earlier try was done.
func (r renewals) tells(l cred.Lease) bool {
	return l.AskedUntil.Equal(r[l.ID]) || l.AskedUntil.IsZero() && (!l.Renewable || l.Final())
}

func (w *world) records(grants map[cred.GrantID]cred.GrantState, leases map[cred.LeaseID]cred.LeaseState, asked renewals) (map[cred.GrantID]cred.Grant, map[cred.LeaseID]cred.Lease) {
	w.t.Helper()
	gs, ls := map[cred.GrantID]cred.Grant{}, map[cred.LeaseID]cred.Lease{}
	w.must(w.sealed.View(context.Background(), func(tx store.Tx) error {
		for r, err := range tx.Scan(store.Query{Table: store.Grants}) {
			w.must(err)
			g, err := decodeGrant(r)
			w.must(err)
			gs[g.ID] = g
			if g.State() != grants[g.ID] {
				w.t.Errorf("grant %s is %s, and its last entry says %q", g.ID, g.State(), grants[g.ID])
			}
		}
		for r, err := range tx.Scan(store.Query{Table: store.Leases}) {
			w.must(err)
			l, err := decodeLease(r)
			w.must(err)
			ls[l.ID] = l
			if l.State() != leases[l.ID] {
				w.t.Errorf("lease %s is %s, and its last entry says %q", l.ID, l.State(), leases[l.ID])
			}
			if !asked.tells(l) {
				w.t.Errorf("lease %s may be renewed until %s, and its entries say until %s", l.ID, l.AskedUntil, asked[l.ID])
			}
			if l.Final() != r.Due.IsZero() && !(l.State() == cred.LeaseIssued && !l.Revocable || l.State() == cred.LeaseUnknown) {
				w.t.Errorf("lease %s is %s and due %v", l.ID, l.State(), r.Due)
			}
		}
		return nil
	}))
	if len(gs) != len(grants) || len(ls) != len(leases) {
		w.t.Errorf("the log tells of %d grants and %d leases, the store holds %d and %d", len(grants), len(leases), len(gs), len(ls))
	}
	return gs, ls
}

// check holds the invariant: whatever lives at a source belongs to a lease that the store knows and
// that is not final.
func (w *world) check() {
	w.t.Helper()
	_, leases := w.replay()
	own := w.replayOwn()
	for name, s := range w.sources {
		for id, m := range s.live() {
			l, known := leases[id]
			switch state := own[id]; {
			case state == cred.LeaseFailed || state == cred.LeaseRevoked:
				w.t.Errorf("a credential of the broker's own lives at %s and is %s", name, state)
			case state != "":
			case !known:
				w.t.Errorf("a credential of lease %s lives at %s and the store does not know it", id, name)
			case l.Final() && !w.lostWithoutEnd(s, l):
				w.t.Errorf("a credential lives at %s and its lease is %s", name, l.State())
			case l.Grant != m.grant:
				w.t.Errorf("the lease of a credential at %s is of another grant", name)
			}
		}
	}
	w.checkHolders(leases)
}

// lostWithoutEnd reports whether what Issue made was lost at a source that does not keep to the end
// that it is asked for. The broker can't learn of that: it takes the grant's end for the credential's.
func (w *world) lostWithoutEnd(s *source, l cred.Lease) bool {
	return l.Fingerprint.IsZero() && (s.endless || s.lifeAfter > 0)
}

// checkHolders wants at most one lease that can be spent and revoked for each redeemer of a grant.
func (w *world) checkHolders(leases map[cred.LeaseID]cred.Lease) {
	w.t.Helper()
	issued := map[string]cred.LeaseID{}
	for id, l := range leases {
		if l.State() != cred.LeaseIssued || !l.Revocable {
			continue
		}
		key := string(l.Grant) + " " + l.Redeemer
		if other, twice := issued[key]; twice {
			w.t.Errorf("%s has two leases of one grant: %s and %s", l.Redeemer, other, id)
		}
		issued[key] = id
	}
}
