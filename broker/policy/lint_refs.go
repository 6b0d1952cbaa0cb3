package policy

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// refClaims are claims that hold a branch or tag.
var refClaims = []string{"ref", "ref_path", "base_ref", "head_ref", "build_branch", "branchName", vcsRef}

// CircleCI's claims of where a build's code comes from.
const (
	vcsOrigin = "oidc.circleci.com/vcs-origin"
	vcsRef    = "oidc.circleci.com/vcs-ref"
)

func isRef(path string) bool {
	_, claim, ok := claimOf(path)
	return ok && slices.Contains(refClaims, claim)
}

// refs finds branches and tags that others than those who are meant can make.
func (l *linter) refs(s *subject) {
	if s.refuses() {
		return
	}
	s.condition.each(func(f fact, beside []fact) {
		holder, claim, _ := claimOf(f.path)
		if strings.HasPrefix(f.op, "not ") || f.op == "present" {
			return
		}
		switch {
		case claim == "head_ref":
			l.report(f.place, Flaw{
				ID: "caller-chosen-ref", Severity: SeverityError, Subject: s.String(),
				Message: f.text + " is about the branch that a pull request comes from",
				Why:     "whoever opens the pull request chooses its name, in a fork as well",
				Rewrite: "principal.claims.ref, or principal.claims.environment",
			})
		case isRef(f.path) && isWide(f) && !isProtected(beside, holder):
			l.wideRef(s, f, holder, claim)
		case (f.path == "principal.subject" || claim == "sub") && slices.ContainsFunc(f.values, func(v string) bool { return strings.Contains(v, "ref:") }) && isWide(f) && !isProtected(beside, "principal"):
			l.wideRef(s, f, "principal", "ref")
		case (claim == "ref" || claim == "ref_path") && l.mayBeFrom(s, "gitlab") && !isProtected(beside, holder):
			l.report(f.place, Flaw{
				ID: "unprotected-ref", Severity: SeverityWarning, Subject: s.String(),
				Message: f.text + " does not ask whether the ref is protected",
				Why:     "in GitLab everybody who may push can make a branch or tag by a name that nothing protects, and ref has the same value for both",
				Rewrite: fmt.Sprintf("%s && %s.claims.ref_protected == \"true\"", f.text, holder),
			})
		}
	})
}

func isProtected(facts []fact, holder string) bool {
	return slices.ContainsFunc(facts, func(f fact) bool {
		of, claim, ok := claimOf(f.path)
		return ok && of == holder && claim == "ref_protected" && f.isEquality() && slices.Equal(f.values, []string{"true"})
	})
}

func (l *linter) wideRef(s *subject, f fact, holder, claim string) {
	rewrite := fmt.Sprintf("%s.claims.%s == %q", holder, claim, "refs/heads/main")
	if l.mayBeFrom(s, "github-actions", "gitlab") {
		rewrite += fmt.Sprintf(", or %s && %s.claims.ref_protected == \"true\"", f.text, holder)
	}
	l.report(f.place, Flaw{
		ID: "ref-wildcard", Severity: SeverityWarning, Subject: s.String(),
		Message: f.text + " takes every branch or tag whose name fits",
		Why:     "everybody who may push can make one, with whatever code they like",
		Rewrite: rewrite,
	})
}

func isOrigin(f fact) bool {
	_, claim, _ := claimOf(f.path)
	return claim == vcsOrigin && f.isEquality()
}

// isWide reports whether a comparison takes more than a list of values.
func isWide(f fact) bool {
	switch f.op {
	case "startsWith", "endsWith", "contains":
		return true
	case "matches":
		return slices.ContainsFunc(f.values, func(v string) bool {
			tree, err := syntax.Parse(v, syntax.Perl)
			return err == nil && isOpen(tree)
		})
	}
	return false
}

// isOpen reports whether a pattern takes texts without bound.
func isOpen(r *syntax.Regexp) bool {
	switch r.Op {
	case syntax.OpStar, syntax.OpPlus, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpRepeat:
		return r.Max < 0 || isOpen(r.Sub[0])
	}
	return slices.ContainsFunc(r.Sub, isOpen)
}

// events finds rules for GitHub's two events that lend a repository's identity to strangers' code,
// and for CircleCI's builds of forks.
func (l *linter) events(s *subject) {
	if s.refuses() {
		return
	}
	s.condition.each(func(f fact, _ []fact) {
		if strings.HasPrefix(f.op, "not ") {
			return
		}
		for _, v := range f.values {
			if v == "pull_request_target" || v == "workflow_run" {
				l.report(f.place, Flaw{
					ID: "privileged-event", Severity: SeverityWarning, Subject: s.String(),
					Message: f.text + " lets in jobs of the event " + v,
					Why:     "such a job has the identity of the repository itself, and may run code of a fork's pull request",
					Rewrite: "leave the event out; where it must be, compare job_workflow_ref with the one workflow that is known to check out nothing of the fork",
				})
			}
		}
	})
	if s.kind == "rule" && !s.broken && l.mayBeFrom(s, "circleci") && !s.condition.ensures(isOrigin) {
		l.report(place{path: s.path + ".who"}, Flaw{
			ID: "fork-builds", Severity: SeverityWarning, Subject: s.String(),
			Message: "nothing says where a CircleCI build's code comes from",
			Why:     "where a project passes secrets to builds of forks, those have tokens too, and differ by their vcs-origin alone",
			Rewrite: fmt.Sprintf("… && principal.claims[%q] == \"github.com/OWNER/REPO\"", vcsOrigin),
		})
	}
}
