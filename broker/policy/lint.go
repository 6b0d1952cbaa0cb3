package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Severity says how much a flaw matters.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"   // lets somebody in who is not meant, or does nothing at all
	SeverityWarning Severity = "warning" // may do so, or is probably not what was meant
	SeverityInfo    Severity = "info"    // worth knowing
)

// LintInput is what Lint looks at. It need not compile: what can't be read is left out, because a
// check of the file tells of it.
type LintInput struct {
	Source    Source
	Text      []byte         // of the file, for the comments in it
	Providers []LintProvider // in the order of the file's identity_providers
	Drivers   map[string]string

	// PolicySource is the repository that holds the rules, such as github.com/octo/policy; empty
	// where it is not known, and then grants that can write to it are not found.
	PolicySource string

	Now time.Time
}

// LintProvider is what Lint must know of an identity provider.
type LintProvider struct {
	Name, Preset, Issuer string
	Audiences            []string
}

// Flaw is something in a rule set that bites.
type Flaw struct {
	ID       string
	Severity Severity
	Subject  string // what it is in, such as `rule "deploys"`

	File         string
	Line, Column int // from 1, in characters; zero where the source was not read from a file
	Path         string

	Message string // what is there
	Why     string // what can happen
	Rewrite string // what to write in its place; empty where there is no one answer

	Ignored string // the reason that a comment gives for ignoring it; empty where none does
}

// Lint returns what bites in a rule set, in the order of the file. A comment
//
//	# lint:ignore ID reason
//
// on a line of a rule (or target, group or provider), or above it, marks the flaws of that ID in it
// as ignored. Lint has no side effects.
func Lint(in LintInput) []Flaw {
	l := &linter{LintInput: in}
	l.readSubjects()
	for _, s := range l.subjects {
		l.names(s)
		l.patterns(s)
		l.refs(s)
		l.events(s)
		l.times(s)
		l.provider(s)
	}
	l.audiences()
	l.reach()
	l.lifetimes()
	l.policySource()
	l.ignore()
	slices.SortStableFunc(l.flaws, func(a, b Flaw) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.ID, b.ID))
	})
	return slices.Compact(l.flaws)
}

type linter struct {
	LintInput
	subjects []*subject
	flaws    []Flaw
}

// place is a position in the file: an offset, in characters, in the string at a path.
type place struct {
	path   string
	offset int
}

// report adds a flaw. What of f tells its place is filled in.
func (l *linter) report(at place, f Flaw) {
	p := l.Source.At.ProblemIn(at.path, at.offset, "", "")
	f.File, f.Line, f.Column, f.Path = p.File, p.Line, p.Column, p.Path
	l.flaws = append(l.flaws, f)
}

// lifetimes finds grants that outlive the time in which they could be approved.
func (l *linter) lifetimes() {
	for i, r := range l.Source.Rules {
		if r.Approval == nil || r.TTL <= r.Approval.Within || r.Approval.Within == 0 {
			continue
		}
		within := r.Approval.Within
		l.report(place{path: strictyaml.Index("rules", i) + ".ttl"}, Flaw{
			ID: "ttl-beyond-approval", Severity: SeverityWarning, Subject: named("rule", r.Name),
			Message: "the grant lives for " + span(r.TTL) + ", and its approval is asked for " + span(within),
			Why:     "people agree to something that they look at now; long after it the grant is still used, and nobody looks again",
			Rewrite: "ttl: " + span(within) + ", with renewals where it must last longer",
		})
	}
}
