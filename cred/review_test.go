package cred_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

var (
	ada = mailed("okta", "ada", "ada@example.com", true)
	bob = mailed("okta", "bob", "bob@example.com", true)
	eve = mailed("okta", "eve", "eve@example.com", true)
)

// approve returns a person's approval of a request as it stands, given at once.
func approve(g cred.Grant, by cred.Principal, groups ...string) cred.Approval {
	return cred.Approval{By: by, Groups: groups, Verdict: cred.Verdict{Approve: true}, Digest: g.Digest, At: instant}
}

func refuse(g cred.Grant, by cred.Principal, groups ...string) cred.Approval {
	a := approve(g, by, groups...)
	a.Verdict.Approve = false
	return a
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e.Reason
	}
	return ""
}

func twoLeads() cred.Demand {
	return cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 2}}, Within: hour, Fresh: 10 * time.Minute}
}

// request returns eve's request, through her agent and its helper, for which two leads are asked.
func request() cred.Grant {
	eve := eve.Clone()
	eve.Actor = &cred.Principal{Issuer: "i", Subject: "agent", Kind: cred.KindAgent, Actor: &cred.Principal{Issuer: "i", Subject: "helper", Kind: cred.KindPerson}}
	return cred.NewRequest("gr_1", eve, cred.Request{Target: "t", Reason: "r"}, twoLeads(), time.Minute, instant)
}

func judged(t *testing.T, g cred.Grant, all ...cred.Approval) cred.Grant {
	t.Helper()
	for _, a := range all {
		var err error
		if g, err = g.Judge(a, a.At); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestJudge(t *testing.T) {
	g := request()
	one := judged(t, g, approve(g, ada, "leads"))
	two := judged(t, one, approve(g, bob, "leads"))
	active, err := two.Activate(instant)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := g.Expire(instant.Add(hour))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*cred.Approval)) cred.Approval {
		a := approve(g, bob, "leads")
		change(&a)
		return a
	}
	as := func(p cred.Principal) cred.Approval { return approve(g, p, "leads") }
	agents := bob.Clone()
	agents.Actor = &cred.Principal{Issuer: "i", Subject: "other agent"}
	var zero cred.Grant
	edited, unsigned := one, one
	edited.Want.Reason = "another"
	unsigned.Digest = cred.Digest{}
	for name, test := range map[string]struct {
		g      cred.Grant
		a      cred.Approval
		signed time.Time
		state  cred.GrantState
		reason string
	}{
		"the first":                    {g, as(ada), instant, cred.GrantPending, ""},
		"the last":                     {one, as(bob), instant, cred.GrantApproved, ""},
		"a refusal":                    {one, refuse(g, bob, "leads"), instant, cred.GrantDenied, ""},
		"a refusal after one's own":    {one, refuse(g, ada, "leads"), instant, cred.GrantDenied, ""},
		"a refusal of what is agreed":  {two, refuse(g, ada, "leads"), instant, cred.GrantDenied, ""},
		"an approval of what is":       {two, as(mailed("okta", "d", "", nil)), instant, "", "NOT_PENDING"},
		"a refusal of what is used":    {active, refuse(g, ada, "leads"), instant, "", "NOT_PENDING"},
		"of what has expired":          {expired, as(ada), instant, "", "NOT_PENDING"},
		"of what nobody is asked for":  {cred.NewGrant("gr_2", eve, g.Want, instant, late), as(ada), instant, "", "NOT_AN_APPROVER"},
		"of nothing":                   {zero, as(ada), instant, "", "NOT_AN_APPROVER"},
		"at the deadline":              {one, with(func(a *cred.Approval) { a.At = instant.Add(hour) }), instant.Add(hour), "", "REQUEST_EXPIRED"},
		"just before it":               {one, with(func(a *cred.Approval) { a.At = instant.Add(hour - 1) }), instant.Add(hour), cred.GrantApproved, ""},
		"a refusal at the deadline":    {one, with(func(a *cred.Approval) { a.At, a.Verdict.Approve = instant.Add(hour), false }), instant.Add(hour), "", "REQUEST_EXPIRED"},
		"at no time":                   {one, with(func(a *cred.Approval) { a.At = time.Time{} }), instant, "", "REQUEST_EXPIRED"},
		"another request":              {one, with(func(a *cred.Approval) { a.Digest[0]++ }), instant, "", "DIGEST_MISMATCH"},
		"no digest":                    {one, with(func(a *cred.Approval) { a.Digest = cred.Digest{} }), instant, "", "DIGEST_MISMATCH"},
		"no digest on either side":     {unsigned, with(func(a *cred.Approval) { a.Digest = cred.Digest{} }), instant, "", "DIGEST_MISMATCH"},
		"a request changed since":      {edited, as(bob), instant, "", "DIGEST_MISMATCH"},
		"the requester":                {one, as(eve), instant, "", "OWN_REQUEST"},
		"the requester's other self":   {one, as(mailed("google", "e", "EVE@example.com", "true")), instant, "", "OWN_REQUEST"},
		"the requester, refusing":      {one, refuse(g, eve, "leads"), instant, "", "OWN_REQUEST"},
		"the agent's helper":           {one, as(cred.Principal{Issuer: "i", Subject: "helper", Kind: cred.KindPerson}), instant, "", "OWN_REQUEST"},
		"the agent":                    {one, as(cred.Principal{Issuer: "i", Subject: "agent", Kind: cred.KindAgent}), instant, "", "NOT_A_PERSON"},
		"an agent for a lead":          {one, as(agents), instant, "", "NOT_A_PERSON"},
		"a job":                        {one, as(cred.Principal{Issuer: "i", Subject: "job", Kind: cred.KindWorkload}), instant, "", "NOT_A_PERSON"},
		"of no kind":                   {one, as(cred.Principal{Issuer: "i", Subject: "what"}), instant, "", "NOT_A_PERSON"},
		"nobody":                       {one, as(cred.Principal{Kind: cred.KindPerson}), instant, "", "NOT_A_PERSON"},
		"of another group":             {one, approve(g, bob, "lead", "leads2", ""), instant, "", "NOT_AN_APPROVER"},
		"of no group":                  {one, approve(g, bob), instant, "", "NOT_AN_APPROVER"},
		"of no group, of what is used": {active, approve(g, bob), instant, "", "NOT_AN_APPROVER"},
		"the same once more":           {one, as(ada), instant, "", "ALREADY_REVIEWED"},
		"the same from elsewhere":      {one, as(mailed("google", "a", "Ada@example.com", true)), instant, "", "ALREADY_REVIEWED"},
		"the same by an unproven mail": {one, as(mailed("google", "a", "ada@example.com", nil)), instant, cred.GrantApproved, ""},
		"signed in just in time":       {one, as(bob), instant.Add(-10 * time.Minute), cred.GrantApproved, ""},
		"signed in too long ago":       {one, as(bob), instant.Add(-10*time.Minute - 1), "", "SIGN_IN_TOO_OLD"},
		"signed in nobody knows when":  {one, as(bob), time.Time{}, "", "SIGN_IN_TOO_OLD"},
		"signed in a little ahead":     {one, as(bob), instant.Add(time.Minute), cred.GrantApproved, ""},
		"signed in in the far future":  {one, as(bob), instant.Add(hour), "", "SIGN_IN_TOO_OLD"},
		"refused on an old sign-in":    {one, refuse(g, bob, "leads"), instant.Add(-hour), "", "SIGN_IN_TOO_OLD"},
	} {
		got, err := test.g.Judge(test.a, test.signed)
		if reasonOf(err) != test.reason || (err != nil) != (test.reason != "") {
			t.Errorf("%s: %v, want %s", name, err, test.reason)
			continue
		}
		if err != nil {
			if got.State() != test.g.State() || len(got.Approvals) != len(test.g.Approvals) {
				t.Errorf("%s: what was refused left its mark", name)
			}
			continue
		}
		if got.State() != test.state || len(got.Approvals) != len(test.g.Approvals)+1 {
			t.Errorf("%s: %s with %d approvals, want %s", name, got.State(), len(got.Approvals), test.state)
		}
		if ended := test.state == cred.GrantDenied; ended == got.EndedAt.IsZero() || ended != (got.EndReason != "") {
			t.Errorf("%s: ended at %s because of %q", name, got.EndedAt, got.EndReason)
		}
	}
}

// Two verdicts on one value give two values that know nothing of each other.
func TestJudgeSharesNothing(t *testing.T) {
	demand := twoLeads()
	g := cred.NewRequest("gr_1", eve, cred.Request{Target: "t"}, demand, time.Minute, instant)
	demand.AllOf[0].Group = "everybody"
	if got := g.Demand.Groups(); !slices.Equal(got, []string{"leads"}) {
		t.Errorf("the demand follows its maker's slice: %q", got)
	}
	g.Approvals = make([]cred.Approval, 0, 8)
	left := judged(t, g, approve(g, ada, "leads"))
	right := judged(t, g, refuse(g, bob, "leads"))
	if left.Approvals[0].By.Subject != "ada" || right.Approvals[0].By.Subject != "bob" || len(g.Approvals) != 0 {
		t.Errorf("%s and %s", left.Approvals[0].By.Subject, right.Approvals[0].By.Subject)
	}
}

func TestActivate(t *testing.T) {
	g := request()
	approved := judged(t, g, approve(g, ada, "leads"), approve(g, bob, "leads"))
	with := func(change func(*cred.Grant)) cred.Grant {
		c := approved
		c.Approvals = slices.Clone(c.Approvals)
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		g      cred.Grant
		at     time.Time
		reason string
		until  time.Time
	}{
		"at once":                {approved, instant, "", instant.Add(time.Minute)},
		"at the last moment":     {approved, instant.Add(hour - 1), "", instant.Add(hour + time.Minute - 1)},
		"at the deadline":        {approved, instant.Add(hour), "REQUEST_EXPIRED", time.Time{}},
		"before the window ends": {with(func(g *cred.Grant) { g.Until = instant.Add(time.Second) }), instant, "", instant.Add(time.Second)},
		"long before it ends":    {with(func(g *cred.Grant) { g.Until = late }), instant, "", instant.Add(time.Minute)},
		"as the window ends":     {with(func(g *cred.Grant) { g.Until = instant }), instant, "WINDOW_CLOSED", time.Time{}},
		"pending":                {judged(t, g, approve(g, ada, "leads")), instant, "WRONG_STATE", time.Time{}},
		"asked for something else since": {
			with(func(g *cred.Grant) { g.Want.Params = map[string]string{"role": "admin"} }), instant,
			"NOT_AS_APPROVED",
			time.Time{},
		},
		"held by somebody else":      {with(func(g *cred.Grant) { g.Holder.Subject = "mallory" }), instant, "NOT_AS_APPROVED", time.Time{}},
		"held by an approver":        {with(func(g *cred.Grant) { g.Holder.Claims = ada.Claims }), instant, "NOT_AS_APPROVED", time.Time{}},
		"one approval gone":          {with(func(g *cred.Grant) { g.Approvals = g.Approvals[:1] }), instant, "NOT_AS_APPROVED", time.Time{}},
		"one approval twice":         {with(func(g *cred.Grant) { g.Approvals[1] = g.Approvals[0] }), instant, "NOT_AS_APPROVED", time.Time{}},
		"one approval of other work": {with(func(g *cred.Grant) { g.Approvals[1].Digest = cred.Digest{} }), instant, "NOT_AS_APPROVED", time.Time{}},
		"one approval too late":      {with(func(g *cred.Grant) { g.Approvals[1].At = g.NotAfter }), instant, "NOT_AS_APPROVED", time.Time{}},
		"no demand":                  {with(func(g *cred.Grant) { g.Demand = nil }), instant, "NOT_AS_APPROVED", time.Time{}},
		"a greater demand":           {with(func(g *cred.Grant) { g.Demand = &cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 3}}} }), instant, "NOT_AS_APPROVED", time.Time{}},
	} {
		got, err := test.g.Activate(test.at)
		if reasonOf(err) != test.reason || (err != nil) != (test.reason != "") {
			t.Errorf("%s: %v, want %s", name, err, test.reason)
			continue
		}
		if err != nil {
			if got.State() != test.g.State() || got.NotAfter != test.g.NotAfter {
				t.Errorf("%s: what was refused left its mark", name)
			}
			continue
		}
		if got.State() != cred.GrantActive || !got.NotBefore.Equal(test.at) || !got.NotAfter.Equal(test.until) {
			t.Errorf("%s: %s from %s to %s", name, got.State(), got.NotBefore, got.NotAfter)
		}
		if again, err := got.Activate(test.at); reasonOf(err) != "WRONG_STATE" || !again.NotAfter.Equal(test.until) {
			t.Errorf("%s: a second time: %v", name, err)
		}
	}
	for _, ttl := range []time.Duration{0, -time.Minute} {
		lifeless := with(func(g *cred.Grant) { g.TTL = ttl })
		if got, err := lifeless.Activate(instant); err == nil && got.Usable(instant) == nil {
			t.Errorf("a grant with a life of %s is usable", ttl)
		}
	}
}

func TestSignOff(t *testing.T) {
	g := cred.NewGrant("gr_1", eve, cred.Request{Target: "t"}, instant, late)
	g.Review = &cred.Review{Groups: []string{"security"}, Due: early}
	ended, err := g.Revoke(instant, "why")
	if err != nil {
		t.Fatal(err)
	}
	done, err := g.SignOff(approve(g, bob, "security"))
	if err != nil || done.Review.SignedOff.By.Subject != "bob" || g.Review.SignedOff != nil || done.Approvals != nil {
		t.Fatalf("signed off %+v, %v; before %+v", done.Review, err, g.Review)
	}
	none := g
	none.Review = nil
	other := approve(g, ada, "security")
	other.Digest[0]++
	for name, test := range map[string]struct {
		g      cred.Grant
		a      cred.Approval
		reason string
	}{
		"a grant that has ended":    {ended, approve(g, ada, "security"), ""},
		"twice":                     {done, approve(g, ada, "security"), "NO_REVIEW_OWED"},
		"where none is owed":        {none, approve(g, ada, "security"), "NOT_AN_APPROVER"},
		"another request":           {g, other, "DIGEST_MISMATCH"},
		"by the holder":             {g, approve(g, eve, "security"), "OWN_REQUEST"},
		"by the holder's other one": {g, approve(g, mailed("google", "e", "eve@example.com", nil), "security"), "OWN_REQUEST"},
		"by another group":          {g, approve(g, ada, "leads"), "NOT_AN_APPROVER"},
		"by a job":                  {g, approve(g, cred.Principal{Issuer: "i", Subject: "s", Kind: cred.KindWorkload}, "security"), "NOT_A_PERSON"},
	} {
		got, err := test.g.SignOff(test.a)
		if reasonOf(err) != test.reason || (err == nil) != (got.Review != nil && got.Review != test.g.Review) {
			t.Errorf("%s: %v, want %s", name, err, test.reason)
		}
	}
}
