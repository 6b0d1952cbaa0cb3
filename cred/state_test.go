package cred_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var instant = time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)

var (
	grantStates = []cred.GrantState{
		cred.GrantPending, cred.GrantApproved, cred.GrantActive, cred.GrantDenied, cred.GrantExpired, cred.GrantRevoked,
	}
	leaseStates = []cred.LeaseState{
		cred.LeaseIntent, cred.LeaseIssued, cred.LeaseRevoking, cred.LeaseRevoked, cred.LeaseExpired, cred.LeaseFailed, cred.LeaseUnknown,
	}
)

// inState returns a value in any state, the way a store brings it back.
func inState[T any](t testing.TB, v any, from, state string) T {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), `"state":"`+from+`"`, `"state":"`+state+`"`, 1)
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func grantIn(t testing.TB, s cred.GrantState) cred.Grant {
	g := cred.NewGrant("gr_1", cred.Principal{Subject: "s"}, cred.Request{Target: "t"}, instant, instant.Add(time.Hour))
	return inState[cred.Grant](t, g, "active", string(s))
}

func leaseIn(t testing.TB, s cred.LeaseState) cred.Lease {
	l := cred.NewLease("le_1", "gr_1", "holder", "vault", "handle", instant, instant.Add(time.Hour))
	l.Note = "note"
	return inState[cred.Lease](t, l, "intent", string(s))
}

var (
	early = instant.Add(time.Minute)
	late  = instant.Add(time.Hour)
)

var grantMethods = map[string]func(cred.Grant) (cred.Grant, error){
	"Revoke":       func(g cred.Grant) (cred.Grant, error) { return g.Revoke(early, "why") },
	"Expire early": func(g cred.Grant) (cred.Grant, error) { return g.Expire(late.Add(-1)) },
	"Expire":       func(g cred.Grant) (cred.Grant, error) { return g.Expire(late) },
}

// grantTable has every change that is allowed. What is not here is refused.
var grantTable = map[cred.GrantState]map[string]cred.GrantState{
	cred.GrantPending:  {"Revoke": cred.GrantRevoked, "Expire": cred.GrantExpired},
	cred.GrantApproved: {"Revoke": cred.GrantRevoked, "Expire": cred.GrantExpired},
	cred.GrantActive:   {"Revoke": cred.GrantRevoked, "Expire": cred.GrantExpired},
}

func TestGrantTransitions(t *testing.T) {
	for _, from := range grantStates {
		for method, call := range grantMethods {
			t.Run(string(from)+"/"+method, func(t *testing.T) {
				before := grantIn(t, from)
				got, err := call(before)
				to, allowed := grantTable[from][method]
				if !allowed {
					wantUnchanged(t, before, got, err)
					return
				}
				if err != nil || got.State() != to {
					t.Fatalf("state %s, error %v, want %s", got.State(), err, to)
				}
				if got.EndedAt.IsZero() || got.EndReason == "" {
					t.Errorf("ended at %s because of %q", got.EndedAt, got.EndReason)
				}
				if before.State() != from {
					t.Error("the value itself changed")
				}
			})
		}
	}
}

func wantUnchanged[T interface{ MarshalJSON() ([]byte, error) }](t *testing.T, before, after T, err error) {
	t.Helper()
	if cred.KindOf(err) != cred.Conflict || err == nil {
		t.Fatalf("error %v, want a conflict", err)
	}
	a, errA := before.MarshalJSON()
	b, errB := after.MarshalJSON()
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("a refused change left its mark:\n%s\n%s", a, b)
	}
}

func TestGrantUsable(t *testing.T) {
	tests := []struct {
		state  cred.GrantState
		at     time.Time
		kind   cred.Kind
		reason string
	}{
		{cred.GrantActive, instant, 0, ""},
		{cred.GrantActive, late.Add(-1), 0, ""},
		{cred.GrantActive, late, cred.Expired, "GRANT_EXPIRED"},
		{cred.GrantActive, instant.Add(-1), cred.Denied, "GRANT_NOT_YET"},
		{cred.GrantPending, early, cred.Pending, "GRANT_PENDING"},
		{cred.GrantPending, late, cred.Expired, "REQUEST_EXPIRED"},
		{cred.GrantApproved, late.Add(-1), cred.Pending, "GRANT_PENDING"},
		{cred.GrantApproved, late, cred.Expired, "REQUEST_EXPIRED"},
		{cred.GrantDenied, early, cred.Denied, "GRANT_NOT_ACTIVE"},
		{cred.GrantExpired, early, cred.Expired, "GRANT_EXPIRED"},
		{cred.GrantRevoked, early, cred.Denied, "GRANT_REVOKED"},
		{cred.GrantRevoked, late, cred.Denied, "GRANT_REVOKED"},
	}
	for _, test := range tests {
		err := grantIn(t, test.state).Usable(test.at)
		if test.reason == "" {
			if err != nil {
				t.Errorf("%s at %s: %v", test.state, test.at, err)
			}
			continue
		}
		e, ok := err.(*cred.Error)
		if !ok || e.Kind != test.kind || e.Reason != test.reason {
			t.Errorf("%s at %s: %v, want %s %s", test.state, test.at, err, test.kind, test.reason)
		}
	}
	if (cred.Grant{NotAfter: late}).Usable(early) == nil {
		t.Error("the zero grant is usable")
	}
}

var leaseMethods = map[string]func(cred.Lease) (cred.Lease, error){
	"Issued":        func(l cred.Lease) (cred.Lease, error) { return l.Issued("h2", cred.Fingerprint{1}, false, late.Add(1)) },
	"Failed":        func(l cred.Lease) (cred.Lease, error) { return l.Failed(early, "why") },
	"Renewing":      func(l cred.Lease) (cred.Lease, error) { return l.Renewing(late.Add(1)) },
	"Renewed":       func(l cred.Lease) (cred.Lease, error) { return l.Renewed(late) },
	"NotRenewed":    func(l cred.Lease) (cred.Lease, error) { return l.NotRenewed("why") },
	"Unknown":       func(l cred.Lease) (cred.Lease, error) { return l.Unknown("why") },
	"Irrevocable":   func(l cred.Lease) (cred.Lease, error) { return l.Irrevocable("why") },
	"Revoking":      func(l cred.Lease) (cred.Lease, error) { return l.Revoking() },
	"Revoked":       func(l cred.Lease) (cred.Lease, error) { return l.Revoked(early) },
	"Expired early": func(l cred.Lease) (cred.Lease, error) { return l.Expired(late.Add(-1)) },
	"Expired":       func(l cred.Lease) (cred.Lease, error) { return l.Expired(late) },
}

// leaseTable has every change that is allowed. What is not here is refused.
var leaseTable = map[cred.LeaseState]map[string]cred.LeaseState{
	cred.LeaseIntent: {
		"Issued": cred.LeaseIssued, "Failed": cred.LeaseFailed, "Unknown": cred.LeaseUnknown, "Revoking": cred.LeaseRevoking,
	},
	cred.LeaseIssued: {
		"Renewing": cred.LeaseIssued, "Renewed": cred.LeaseIssued, "NotRenewed": cred.LeaseIssued,
		"Revoking": cred.LeaseRevoking, "Expired": cred.LeaseExpired,
	},
	cred.LeaseRevoking: {
		"Revoked": cred.LeaseRevoked, "Unknown": cred.LeaseUnknown, "Irrevocable": cred.LeaseUnknown, "Expired": cred.LeaseExpired,
	},
	cred.LeaseUnknown: {"Revoked": cred.LeaseRevoked, "Expired": cred.LeaseExpired},
}

func TestLeaseTransitions(t *testing.T) {
	for _, from := range leaseStates {
		for method, call := range leaseMethods {
			t.Run(string(from)+"/"+method, func(t *testing.T) {
				before := leaseIn(t, from)
				got, err := call(before)
				to, allowed := leaseTable[from][method]
				if !allowed {
					wantUnchanged(t, before, got, err)
					return
				}
				if err != nil || got.State() != to {
					t.Fatalf("state %s, error %v, want %s", got.State(), err, to)
				}
				if got.Final() == got.EndedAt.IsZero() {
					t.Errorf("final: %v, ended at %s", got.Final(), got.EndedAt)
				}
				if before.State() != from {
					t.Error("the value itself changed")
				}
			})
		}
	}
}

func TestFinalLeasesHaveNoWayOut(t *testing.T) {
	for _, s := range leaseStates {
		if l := leaseIn(t, s); l.Final() != (len(leaseTable[s]) == 0) {
			t.Errorf("%s is final: %v, but has %d ways out", s, l.Final(), len(leaseTable[s]))
		}
	}
}

func TestIssuedRecordsWhatWasMade(t *testing.T) {
	got, err := leaseIn(t, cred.LeaseIntent).Issued("h2", cred.Fingerprint{1}, false, late.Add(1))
	if err != nil {
		t.Fatal(err)
	}
	if got.Handle != "h2" || got.Fingerprint != (cred.Fingerprint{1}) || got.Revocable || !got.NotAfter.Equal(late.Add(1)) {
		t.Errorf("lease %+v", got)
	}
}

// A lease may live until the end that its source was asked for, until the source says until when.
func TestRenewalMovesTheEnd(t *testing.T) {
	l := leaseIn(t, cred.LeaseIssued)
	l.Renewable = true
	asked, err := l.Renewing(late.Add(time.Hour))
	if err != nil || !asked.End().Equal(late.Add(time.Hour)) || !asked.NotAfter.Equal(l.NotAfter) {
		t.Fatalf("asked: %+v, %v", asked, err)
	}
	if again, err := asked.Renewing(late.Add(time.Minute)); err != nil || !again.End().Equal(late.Add(time.Hour)) {
		t.Errorf("what was asked before is forgotten: %+v, %v", again, err)
	}
	if got, err := asked.Expired(late); err == nil {
		t.Errorf("it expired while it may live: %+v", got)
	}
	if got, err := asked.Expired(late.Add(time.Hour)); err != nil || got.State() != cred.LeaseExpired {
		t.Errorf("%+v, %v", got, err)
	}
	renewed, err := asked.Renewed(late.Add(time.Minute)) // less than was asked for
	if err != nil || !renewed.End().Equal(late.Add(time.Minute)) || !renewed.AskedUntil.IsZero() || !renewed.Renewable {
		t.Errorf("renewed: %+v, %v", renewed, err)
	}
	if got, err := l.Renewed(time.Time{}); cred.KindOf(err) != cred.Invalid || got != l {
		t.Errorf("renewed without an end: %+v, %v", got, err)
	}
	stopped, err := asked.NotRenewed("no more")
	if err != nil || stopped.Renewable || stopped.Note != "no more" || !stopped.End().Equal(asked.End()) {
		t.Errorf("renewed no more: %+v, %v", stopped, err)
	}
	endless := l
	endless.NotAfter = time.Time{}
	if end := endless.End(); !end.IsZero() {
		t.Errorf("a lease without an end ends %s", end)
	}
}

// A source that sets no end makes a credential that time does not end.
func TestALeaseWithoutAnEndDoesNotExpire(t *testing.T) {
	for _, s := range leaseStates {
		l := leaseIn(t, s)
		l.NotAfter = time.Time{}
		got, err := l.Expired(late)
		wantUnchanged(t, l, got, err)
	}
}

// Whatever is called in whatever order, the outcome follows the table.
func TestLeaseWalks(t *testing.T) {
	var names []string
	for name := range leaseMethods {
		names = append(names, name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		l := leaseIn(t, cred.LeaseIntent)
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 1, 10).Draw(rt, "calls") {
			from := l.State()
			l.NotAfter, l.AskedUntil = late, time.Time{} // Issued and Renewing move it
			next, err := leaseMethods[name](l)
			want, allowed := leaseTable[from][name]
			if !allowed {
				want = from
			}
			if (err == nil) != allowed || next.State() != want {
				rt.Fatalf("%s from %s: %s, %v; want %s", name, from, next.State(), err, want)
			}
			l = next
		}
	})
}

func TestStatesSurviveTheStore(t *testing.T) {
	compare := cmp.Options{
		cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }), cmpopts.EquateEmpty(),
		cmp.AllowUnexported(cred.Grant{}, cred.Lease{}),
	}
	who := cred.Principal{Provider: "p", Issuer: "i", Subject: "s", Groups: []string{"g"}, Claims: map[string]any{"n": 1.5, "a": []any{"b"}}, Actor: &cred.Principal{Subject: "a"}}
	for _, s := range grantStates {
		g := grantIn(t, s)
		g.Holder, g.Rule, g.PolicyHash, g.RetryKey, g.EndedAt, g.EndReason, g.Rev = who, "r", "h", "k", late, "why", 7
		g.Want = cred.Request{Target: "t", Scopes: []string{"b", "a"}, Params: map[string]string{"k": "v"}, TTL: time.Minute, Reason: "r"}
		g.Want.Binding, g.Deliver, g.Params, g.Key = cred.BindDPoP, cred.DeliverProxy, map[string]string{"k": "w"}, "thumbprint"
		g.Demand = &cred.Demand{AllOf: []cred.Quorum{{"leads", 1}}, AnyOf: []cred.Quorum{{"a", 2}, {"b", 1}}, Within: time.Hour, Remind: 1, Fresh: 2}
		g.TTL, g.Until, g.Renewals, g.RenewedFrom = time.Minute, late, 3, "gr_0"
		g.Approvals = []cred.Approval{{By: who, Groups: []string{"leads"}, Verdict: cred.Verdict{Approve: true, Comment: "c"}, Digest: g.Digest, At: early, Standing: "sa_1"}}
		g.Review = &cred.Review{Groups: []string{"security"}, Due: late, SignedOff: &g.Approvals[0], Overdue: true}
		wantNoZero(t, g)
		got := cred.Grant{Rev: 7} // the store's, see Grant
		roundTrip(t, g, &got)
		if diff := cmp.Diff(g, got, compare); diff != "" {
			t.Errorf("grant %s (-want +got):\n%s", s, diff)
		}
	}
	for _, s := range leaseStates {
		l := leaseIn(t, s)
		l.Fingerprint, l.Revocable, l.EndedAt, l.Rev = secret().Fingerprint(), false, late, 7
		got := cred.Lease{Rev: 7}
		roundTrip(t, l, &got)
		if diff := cmp.Diff(l, got, compare); diff != "" {
			t.Errorf("lease %s (-want +got):\n%s", s, diff)
		}
	}
}

// wantNoZero keeps the test above complete: whoever adds a field sets it there.
func wantNoZero(t *testing.T, g cred.Grant) {
	t.Helper()
	v := reflect.ValueOf(g)
	for _, f := range reflect.VisibleFields(v.Type()) {
		if v.FieldByIndex(f.Index).IsZero() {
			t.Errorf("the field %s is not set, so that nothing shows that it is stored", f.Name)
		}
	}
}

func roundTrip(t *testing.T, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownStatesAreRefused(t *testing.T) {
	for _, state := range []string{"", "Active", "ACTIVE", "active ", "approved ", "issued2", "null"} {
		text := fmt.Sprintf(`{"id":"x","state":%q}`, state)
		var g cred.Grant
		if err := json.Unmarshal([]byte(text), &g); err == nil {
			t.Errorf("a grant may be %q", state)
		}
		var l cred.Lease
		if err := json.Unmarshal([]byte(text), &l); err == nil {
			t.Errorf("a lease may be %q", state)
		}
	}
	for _, text := range []string{`{}`, `{"state":null}`, `{"state":1}`, `[]`, `{"state":"intent"`} {
		if err := json.Unmarshal([]byte(text), new(cred.Lease)); err == nil {
			t.Errorf("a lease may be %s", text)
		}
		if err := json.Unmarshal([]byte(strings.Replace(text, "intent", "active", 1)), new(cred.Grant)); err == nil {
			t.Errorf("a grant may be %s", text)
		}
	}
}
