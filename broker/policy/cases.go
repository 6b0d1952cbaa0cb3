package policy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// ParseCases reads a file of cases. file names it in problems.
func ParseCases(file string, text []byte) ([]Case, strictyaml.Problems) {
	root, problems := strictyaml.Parse(file, text)
	if len(problems) > 0 && root.Kind() == strictyaml.Null {
		return nil, problems
	}
	var f CaseFile
	problems = problems.Merge(root.Decode(&f))
	c := &caseChecker{names: map[string]bool{}}
	for i := range f.Cases {
		items := root.Get("cases").Items()
		f.Cases[i].at = items[i]
		c.check(&f.Cases[i])
	}
	if len(f.Cases) == 0 && len(problems) == 0 {
		c.problems = append(c.problems, root.Problem("cases", "lists nothing, so that nothing is tested", ""))
	}
	if problems = problems.Merge(c.problems); len(problems) > 0 {
		return nil, problems.Sorted()
	}
	return f.Cases, nil
}

type caseChecker struct {
	names    map[string]bool
	problems strictyaml.Problems
}

func (c *caseChecker) check(k *Case) {
	refuse := func(path, message, hint string) {
		c.problems = append(c.problems, k.at.Problem(path, message, hint))
	}
	if k.at.Kind() != strictyaml.Mapping {
		return // which has been told
	}
	if k.Name != "" && c.names[k.Name] {
		refuse("name", fmt.Sprintf("the name %q is used twice", k.Name), "")
	}
	c.names[k.Name] = true
	checkWho(k.Who, "who", refuse)
	if _, err := time.Parse(time.RFC3339, k.Wants.At); k.Wants.At != "" && err != nil {
		refuse("wants.at", "must be a time such as 2026-03-02T09:00:00+01:00", "")
	}
	e := k.Expects
	switch allowed := e.Decision != string(OutcomeDenied); {
	case allowed && e.Reason != "":
		refuse("expects.reason", "is for refusals", "")
	case !allowed && (e.TTL > 0 || e.Deliver != "" || e.Exempt != ""):
		refuse("expects", "a refusal has no ttl, no deliver and no exempt", "")
	case e.Approval != nil && e.Decision != string(OutcomePending):
		refuse("expects.approval", "is for the decision pending", "")
	}
}

func checkWho(w CaseWho, path string, refuse func(path, message, hint string)) {
	isMap := w.Claims.Kind() == strictyaml.Mapping
	switch {
	case (w.Claims != nil) == (w.Principal != nil):
		refuse(path, "must have either claims or principal", "")
	case w.Claims != nil && !isMap:
		refuse(path+".claims", "must be a mapping", "")
	case w.Principal != nil && w.Principal.Claims != nil && w.Principal.Claims.Kind() != strictyaml.Mapping:
		refuse(path+".principal.claims", "must be a mapping", "")
	case w.Principal != nil && w.Principal.Groups != nil && w.Principal.Groups.Kind() != strictyaml.Sequence:
		refuse(path+".principal.groups", "must be a list", "write [] for none, and leave it out where groups are unknown")
	}
	if w.Actor != nil {
		checkWho(*w.Actor, path+".actor", refuse)
	}
}

// Identify makes the principal of a provider's claims, as for a token that was verified. With claims
// nil it returns what every principal of the provider has.
type Identify func(provider string, claims map[string]any) (cred.Principal, error)

// CaseResult is what came of a case.
type CaseResult struct {
	Name         string
	File         string
	Line, Column int
	Decision     Decision
	Wrong        []Mismatch // empty where all is as expected
}

// Mismatch is something that is not as expected.
type Mismatch struct {
	What, Want, Got string
}

// Test decides a case's request, at its own time or at now, and compares.
func (s *Set) Test(k Case, identify Identify, now time.Time) CaseResult {
	p := k.at.Problem("", "", "")
	out := CaseResult{Name: k.Name, File: p.File, Line: p.Line, Column: p.Column}
	who, err := k.Who.principal(identify)
	if err != nil {
		out.Wrong = []Mismatch{{"who", "an identity", "none: " + cred.PublicText(err)}}
		return out
	}
	if at, err := time.Parse(time.RFC3339, k.Wants.At); err == nil {
		now = at
	}
	out.Decision = s.Decide(who, k.Wants.request(), now)
	out.Wrong = k.Expects.compare(out.Decision)
	return out
}

func (w CaseWho) principal(identify Identify) (cred.Principal, error) {
	var claims map[string]any
	if w.Claims != nil {
		claims, _ = valueOf(w.Claims).(map[string]any)
	}
	who, err := identify(w.Provider, claims)
	if err != nil {
		return who, err
	}
	if p := w.Principal; p != nil {
		who.Subject, who.Name = p.Subject, p.Name
		if p.Kind != "" {
			who.Kind = cred.PrincipalKind(p.Kind)
		}
		who.Claims, _ = valueOf(p.Claims).(map[string]any)
		if p.Groups != nil {
			who.Groups = []string{}
			for _, g := range p.Groups.Items() {
				who.Groups = append(who.Groups, g.Text())
			}
		}
	}
	if w.Actor != nil {
		actor, err := w.Actor.principal(identify)
		if err != nil {
			return who, err
		}
		who.Actor = &actor
	}
	return who, nil
}

func (w CaseWants) request() cred.Request {
	return cred.Request{
		Target: w.Target, Scopes: w.Scopes, Params: w.Params, TTL: w.TTL, Reason: w.Reason, Binding: cred.Binding(w.Binding),
	}
}

// compare returns what of a decision is not as expected. Refusals are compared with what the log has:
// the caller may be told less.
func (e CaseExpects) compare(d Decision) []Mismatch {
	var all []Mismatch
	differ := func(what, want, got string) {
		if want != "" && want != got {
			all = append(all, Mismatch{what, want, got})
		}
	}
	differ("decision", e.Decision, string(d.Outcome()))
	differ("rule", e.Rule, d.Private.Rule)
	differ("reason", e.Reason, d.Private.Reason)
	if e.Approval != nil {
		differ("approval", (&cred.Demand{AllOf: quorumsOf(e.Approval.AllOf), AnyOf: quorumsOf(e.Approval.AnyOf)}).InWords(), d.Demand.InWords())
	}
	differ("exempt", e.Exempt, d.Exempt)
	if e.TTL > 0 && d.Allowed {
		differ("ttl", span(e.TTL), span(d.TTL))
	}
	differ("deliver", e.Deliver, string(d.Deliver))
	return all
}

func quorumsOf(all []Quorum) []cred.Quorum {
	out := make([]cred.Quorum, len(all))
	for i, q := range all {
		out[i] = cred.Quorum{Group: q.Group, Count: q.Count}
	}
	return out
}

// valueOf returns a value as JSON has it.
func valueOf(n *strictyaml.Node) any {
	switch n.Kind() {
	case strictyaml.Bool:
		return n.Text() == "true"
	case strictyaml.Number:
		return number(n.Text())
	case strictyaml.String:
		return n.Text()
	case strictyaml.Mapping:
		out := map[string]any{}
		for _, key := range n.Keys() {
			out[key] = valueOf(n.Get(key))
		}
		return out
	case strictyaml.Sequence:
		out := make([]any, len(n.Items()))
		for i, item := range n.Items() {
			out[i] = valueOf(item)
		}
		return out
	}
	return nil
}

// number reads a number of YAML as one of JSON; one that has no value there stays text.
func number(text string) any {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		if _, err := json.Marshal(f); err == nil {
			return f
		}
	}
	if i, err := strconv.ParseInt(text, 0, 64); err == nil {
		return float64(i)
	}
	return text
}
