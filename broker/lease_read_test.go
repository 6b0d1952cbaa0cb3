package broker

import (
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

func TestListLeases(t *testing.T) {
	w := newWorld(t)
	deliver := func(target string) Delivered { // each in an instant of its own, by which they are sorted
		got, err := w.deliver(target)
		w.wantDelivered(got, err)
		w.clock.advance(time.Millisecond)
		return got
	}
	ended, lives, other := deliver("short"), deliver("short"), deliver("db")
	_, _, err := w.Revoke(t.Context(), runner, ended.Grant.ID, "")
	w.must(err)
	w.sources["vault"].plan("issue", doneLost)
	w.sources["vault"].plan("revoke", notDone, notDone, notDone)
	if _, err := w.deliver("db"); err == nil {
		t.Fatal("it was delivered")
	}

	list := func(f LeaseFilter) (out []cred.LeaseID) {
		t.Helper()
		for {
			page, next, err := w.ListLeases(t.Context(), auditor, f)
			w.must(err)
			if f.Limit > 0 && len(page) > f.Limit {
				t.Errorf("%d leases in a page of %d", len(page), f.Limit)
			}
			for _, l := range page {
				out = append(out, l.ID)
			}
			if next == "" {
				return out
			}
			f.After = next
		}
	}
	open := list(LeaseFilter{})
	if len(open) != 3 || open[1] != other.Redeemed.Lease.ID || open[2] != lives.Redeemed.Lease.ID {
		t.Errorf("open are %v, want what lives, the newest first: %v then %v", open, other.Redeemed.Lease.ID, lives.Redeemed.Lease.ID)
	}
	for _, c := range []struct {
		f    LeaseFilter
		want []cred.LeaseID
	}{
		{LeaseFilter{Limit: 1}, open},
		{LeaseFilter{Limit: 2}, open},
		{LeaseFilter{Limit: 3}, open},
		{LeaseFilter{State: cred.LeaseRevoked}, []cred.LeaseID{ended.Redeemed.Lease.ID}},
		{LeaseFilter{State: cred.LeaseIssued}, []cred.LeaseID{other.Redeemed.Lease.ID, lives.Redeemed.Lease.ID}},
		{LeaseFilter{State: cred.LeaseIssued, Issuer: "short"}, []cred.LeaseID{lives.Redeemed.Lease.ID}},
		{LeaseFilter{State: cred.LeaseRevoking}, open[:1]},
		{LeaseFilter{Issuer: "nothing"}, nil},
	} {
		if got := list(c.f); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
	if _, _, err := w.ListLeases(t.Context(), nosy, LeaseFilter{}); cred.KindOf(err) != cred.Denied {
		t.Errorf("a stranger may list leases: %v", err)
	}
	if _, err := w.ListSources(t.Context(), nosy); cred.KindOf(err) != cred.Denied {
		t.Errorf("a stranger may list sources: %v", err)
	}
	w.clock.advance(2 * time.Hour) // beyond its own end the source is asked for a while longer
	w.sweep()
	if got := list(LeaseFilter{}); len(got) != 0 {
		t.Errorf("open are %v after the end of all", got)
	}
}
