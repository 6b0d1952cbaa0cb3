package cred_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const hour = time.Hour

func oneLead() cred.Demand {
	return cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 1}}, Within: hour}
}

func yes(by cred.Principal, groups ...string) cred.Approval {
	return cred.Approval{By: by, Groups: groups, Verdict: cred.Verdict{Approve: true}}
}

// staffed is the plain model of a demand: every way to seat people is tried. Each of people has the
// groups of one human being.
func staffed(d cred.Demand, people [][]string) bool {
	seatsOf := func(all ...cred.Quorum) (seats []string) {
		for _, q := range all {
			for range max(1, q.Count) {
				seats = append(seats, q.Group)
			}
		}
		return seats
	}
	if len(d.AnyOf) == 0 {
		return len(d.AllOf) > 0 && seatAll(seatsOf(d.AllOf...), people)
	}
	for _, q := range d.AnyOf {
		if seatAll(append(seatsOf(d.AllOf...), seatsOf(q)...), people) {
			return true
		}
	}
	return false
}

func seatAll(seats []string, people [][]string) bool {
	if len(seats) == 0 {
		return true
	}
	for i, groups := range people {
		if slices.Contains(groups, seats[0]) && seatAll(seats[1:], slices.Delete(slices.Clone(people), i, i+1)) {
			return true
		}
	}
	return false
}

var groupNames = []string{"a", "b", "c"}

func drawDemand(t *rapid.T) cred.Demand {
	quorum := rapid.Custom(func(t *rapid.T) cred.Quorum {
		return cred.Quorum{Group: rapid.SampledFrom(groupNames).Draw(t, "group"), Count: rapid.IntRange(-1, 3).Draw(t, "count")}
	})
	return cred.Demand{
		AllOf: rapid.SliceOfN(quorum, 0, 3).Draw(t, "all of"), AnyOf: rapid.SliceOfN(quorum, 0, 3).Draw(t, "any of"), Within: hour,
	}
}

// Whoever approves in whatever order, with however many identities: a demand is met exactly if people
// can be given to groups so that all have their count.
func TestMetIsWhatSomeAssignmentGives(t *testing.T) {
	met := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		const humans = 5
		groupsOf := make([][]string, humans)
		for i := range groupsOf {
			groupsOf[i] = rapid.SliceOfNDistinct(rapid.SampledFrom(groupNames), 0, 3, rapid.ID).Draw(t, "groups")
		}
		var approvals []cred.Approval
		voted := map[int]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "approvals") {
			i := rapid.IntRange(0, humans-1).Draw(t, "human")
			provider := rapid.SampledFrom([]string{"okta", "google"}).Draw(t, "provider")
			a := yes(mailed(provider, fmt.Sprint(provider, i), fmt.Sprintf("%d@example.com", i), true), groupsOf[i]...)
			a.Verdict.Approve = rapid.IntRange(0, 3).Draw(t, "verdict") > 0
			voted[i] = voted[i] || a.Verdict.Approve
			approvals = append(approvals, a)
		}
		var people [][]string
		for i := range voted {
			if voted[i] {
				people = append(people, groupsOf[i])
			}
		}
		want := staffed(d, people)
		if got := d.Met(approvals); got != want {
			t.Fatalf("%+v with people in %q: %v", d, people, got)
		}
		if want {
			met++
		}
	})
	if !testing.Short() && met < 5 { // -short runs fewer checks
		t.Errorf("only %d demands were met; this shows nothing", met)
	}
}

func TestMet(t *testing.T) {
	ada, bob, eve := mailed("okta", "a", "a@example.com", true), mailed("okta", "b", "b@example.com", true), mailed("okta", "e", "", nil)
	all := func(q ...cred.Quorum) cred.Demand { return cred.Demand{AllOf: q} }
	anyOf := func(q ...cred.Quorum) cred.Demand { return cred.Demand{AnyOf: q} }
	const huge = 1 << 62
	for name, test := range map[string]struct {
		demand cred.Demand
		given  []cred.Approval
		want   bool
	}{
		"nothing demanded":           {cred.Demand{}, []cred.Approval{yes(ada, "a")}, false},
		"nothing given":              {all(cred.Quorum{Group: "a", Count: 1}), nil, false},
		"one":                        {all(cred.Quorum{Group: "a", Count: 1}), []cred.Approval{yes(ada, "a")}, true},
		"count zero is one":          {all(cred.Quorum{Group: "a"}), nil, false},
		"count below zero is one":    {all(cred.Quorum{Group: "a", Count: -5}), nil, false},
		"a huge count":               {all(cred.Quorum{Group: "a", Count: huge}), []cred.Approval{yes(ada, "a"), yes(bob, "a")}, false},
		"one person for two groups":  {all(cred.Quorum{Group: "a", Count: 1}, cred.Quorum{Group: "b", Count: 1}), []cred.Approval{yes(ada, "a", "b")}, false},
		"the later one makes room":   {all(cred.Quorum{Group: "a", Count: 1}, cred.Quorum{Group: "b", Count: 1}), []cred.Approval{yes(ada, "a", "b"), yes(bob, "a")}, true},
		"the same group twice":       {all(cred.Quorum{Group: "a", Count: 1}, cred.Quorum{Group: "a", Count: 1}), []cred.Approval{yes(ada, "a")}, false},
		"any of alone":               {anyOf(cred.Quorum{Group: "a", Count: 2}, cred.Quorum{Group: "b", Count: 1}), []cred.Approval{yes(bob, "b")}, true},
		"any of is not some of each": {anyOf(cred.Quorum{Group: "a", Count: 2}, cred.Quorum{Group: "b", Count: 2}), []cred.Approval{yes(ada, "a"), yes(bob, "b")}, false},
		"any of beside all of": {
			cred.Demand{AllOf: []cred.Quorum{{Group: "a", Count: 1}}, AnyOf: []cred.Quorum{{Group: "a", Count: 1}}},
			[]cred.Approval{yes(ada, "a")},
			false,
		},
		"a refusal":        {all(cred.Quorum{Group: "a", Count: 1}), []cred.Approval{{By: ada, Groups: []string{"a"}}}, false},
		"of another group": {all(cred.Quorum{Group: "a", Count: 1}), []cred.Approval{yes(ada, "aa", "b", "")}, false},
		"of no group":      {all(cred.Quorum{Group: "a", Count: 1}), []cred.Approval{yes(ada)}, false},
		"twice the same":   {all(cred.Quorum{Group: "a", Count: 2}), []cred.Approval{yes(ada, "a"), yes(ada, "a")}, false},
		"two without mail": {all(cred.Quorum{Group: "a", Count: 2}), []cred.Approval{yes(ada, "a"), yes(eve, "a")}, true},
		"one who borrows a colleague's address without proof": {
			all(cred.Quorum{Group: "a", Count: 2}),
			[]cred.Approval{yes(mailed("okta", "m", "a@example.com", false), "a"), yes(ada, "a")},
			true,
		},
		"two whom a third identity shows to be one": {
			all(cred.Quorum{Group: "a", Count: 2}),
			[]cred.Approval{yes(ada, "a"), yes(mailed("google", "g", "g@example.com", true), "a"), yes(mailed("google", "g", "a@example.com", true), "a")},
			false,
		},
	} {
		if got := test.demand.Met(test.given); got != test.want {
			t.Errorf("%s: met %v", name, got)
		}
	}
}

func TestDemandGroups(t *testing.T) {
	d := cred.Demand{AllOf: []cred.Quorum{{Group: "c"}, {Group: "a"}}, AnyOf: []cred.Quorum{{Group: "b"}, {Group: "a"}}}
	if diff := cmp.Diff([]string{"a", "b", "c"}, d.Groups()); diff != "" {
		t.Error(diff)
	}
	if got := (cred.Demand{}).Groups(); len(got) != 0 {
		t.Errorf("nobody's groups are %q", got)
	}
}
