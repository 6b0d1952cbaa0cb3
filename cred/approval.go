package cred

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Quorum is how many people of one group must agree.
type Quorum struct {
	Group string `json:"group"`
	Count int    `json:"count"` // at least 1; less counts as 1
}

// Demand says whose agreement a request needs before it becomes a grant: that of every quorum in
// AllOf, and of at least one in AnyOf where that lists any. A person counts once, for one group. A
// Demand without a quorum is never met.
type Demand struct {
	AllOf  []Quorum      `json:"all_of,omitempty"`
	AnyOf  []Quorum      `json:"any_of,omitempty"`
	Within time.Duration `json:"within"`           // from the request to its use; after it the request has expired
	Remind time.Duration `json:"remind,omitempty"` // how often those who are asked are reminded; zero: never
	Fresh  time.Duration `json:"fresh,omitempty"`  // greatest age of an approver's sign-in (auth_time); zero: any
}

// Groups returns the groups whose members are asked, sorted.
func (d Demand) Groups() []string {
	var all []string
	for _, q := range d.AllOf {
		all = append(all, q.Group)
	}
	for _, q := range d.AnyOf {
		all = append(all, q.Group)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// InWords says whose agreement is needed, in an order of its own: "1 of leads and 2 of security". Of a
// nil Demand, and of an empty one, that is nobody's.
func (d *Demand) InWords() string {
	if d == nil {
		return "nobody"
	}
	each, one := inWords(d.AllOf, " and "), inWords(d.AnyOf, " or ")
	switch {
	case each == "" && one == "":
		return "nobody"
	case each == "":
		return one
	case one == "":
		return each
	case len(d.AnyOf) > 1:
		one = "(" + one + ")"
	}
	return each + " and " + one
}

func inWords(all []Quorum, join string) string {
	words := make([]string, len(all))
	for i, q := range all {
		words[i] = fmt.Sprintf("%d of %s", max(q.Count, 1), q.Group)
	}
	slices.Sort(words)
	return strings.Join(words, join)
}

// Met reports whether approvals satisfy the demand. Refusals and approvals of people who are in none
// of its groups count for nothing.
func (d Demand) Met(approvals []Approval) bool {
	people := voters(approvals)
	if len(d.AnyOf) == 0 {
		return len(d.AllOf) > 0 && canStaff(d.AllOf, people)
	}
	return slices.ContainsFunc(d.AnyOf, func(q Quorum) bool {
		return canStaff(append(slices.Clip(slices.Clone(d.AllOf)), q), people)
	})
}

// voter is a person who approved, with all of their approvals.
type voter struct {
	as     []Principal
	groups []string
}

// voters returns the people who approved. Two identities that a third one shows to be the same person
// are one, whatever the order.
func voters(approvals []Approval) []voter {
	var all []voter
	for _, a := range approvals {
		if !a.Verdict.Approve {
			continue
		}
		one := voter{[]Principal{a.By}, slices.Clone(a.Groups)}
		all = slices.DeleteFunc(all, func(v voter) bool {
			same := slices.ContainsFunc(v.as, a.By.SamePerson)
			if same {
				one.as, one.groups = append(one.as, v.as...), append(one.groups, v.groups...)
			}
			return same
		})
		all = append(all, one)
	}
	return all
}

// canStaff reports whether people can be given to groups, each to one of those that they are in, so
// that every group has its count. It is a matching of seats to people, found by augmenting paths.
func canStaff(quorums []Quorum, people []voter) bool {
	var seats []string
	for _, q := range quorums {
		for range max(q.Count, 1) {
			if len(seats) == len(people) {
				return false
			}
			seats = append(seats, q.Group)
		}
	}
	seatOf := make([]int, len(people)) // one more than the index in seats; zero: none
	var seat func(s int, tried []bool) bool
	seat = func(s int, tried []bool) bool {
		for p := range people {
			if tried[p] || !slices.Contains(people[p].groups, seats[s]) {
				continue
			}
			tried[p] = true
			if seatOf[p] == 0 || seat(seatOf[p]-1, tried) {
				seatOf[p] = s + 1
				return true
			}
		}
		return false
	}
	for s := range seats {
		if !seat(s, make([]bool, len(people))) {
			return false
		}
	}
	return true
}

// Verdict is an approver's answer.
type Verdict struct {
	Approve bool   `json:"approve"`
	Comment string `json:"comment,omitempty"`
}

// Approval is one person's verdict on one request.
type Approval struct {
	By       Principal `json:"by"`
	Groups   []string  `json:"groups,omitempty"` // of those that were asked, the ones that By is in
	Verdict  Verdict   `json:"verdict"`
	Digest   Digest    `json:"digest"` // of the request that was seen
	At       time.Time `json:"at"`
	Standing string    `json:"standing,omitempty"` // ID of the standing approval that it comes from
}
