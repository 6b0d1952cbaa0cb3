package policy

import (
	"fmt"
	"slices"
	"strings"
)

// lasting are claims that hold a name which can change hands, with the claims whose value never
// does: one of them beside the name takes the risk away. The first is the one to use.
var lasting = map[string][]string{
	// GitHub Actions
	"repository":       {"repository_id"},
	"repository_owner": {"repository_owner_id", "repository_id"},
	"enterprise":       {"enterprise_id", "repository_owner_id", "repository_id"},
	"actor":            {"actor_id"},
	"job_workflow_ref": {"repository_id", "repository_owner_id"},
	"workflow_ref":     {"repository_id", "repository_owner_id"},
	// GitLab
	"project_path":       {"project_id"},
	"namespace_path":     {"namespace_id", "project_id"},
	"job_project_path":   {"job_project_id"},
	"job_namespace_path": {"job_namespace_id", "job_project_id"},
	"user_login":         {"user_id"},
	"user_email":         {"user_id"},
	// Buildkite
	"organization_slug": {"organization_id", "pipeline_id"},
	"pipeline_slug":     {"pipeline_id"},
}

// displayed are claims that people choose for themselves.
var displayed = []string{"name", "preferred_username", "nickname", "given_name", "family_name", "unique_name", "upn", "login", "username"}

// names finds callers who are known by a name that somebody else can have tomorrow.
func (l *linter) names(s *subject) {
	s.condition.each(func(f fact, beside []fact) {
		if s.refuses() || strings.HasPrefix(f.op, "not ") || f.op == "present" {
			return
		}
		holder, claim, isClaim := claimOf(f.path)
		switch {
		case f.path == "principal.name" || f.path == "principal.actor.name":
			l.displayName(s, f)
		case f.path == "principal.subject" || f.path == "principal.actor.subject":
			l.subjectName(s, f, beside, strings.TrimSuffix(f.path, ".subject"))
		case isClaim && claim == "sub":
			l.subjectName(s, f, beside, holder)
		case isClaim && slices.Contains(displayed, claim):
			l.displayName(s, f)
		case isClaim && claim == "email":
			l.email(s, f, beside, holder)
		case isClaim:
			l.mutableName(s, f, beside, holder, claim)
		}
	})
}

func (l *linter) mutableName(s *subject, f fact, beside []fact, holder, claim string) {
	ids := lasting[claim]
	if ids == nil || pinned(beside, holder, ids...) {
		return
	}
	l.report(f.place, Flaw{
		ID: "name-only-subject", Severity: SeverityError, Subject: s.String(),
		Message: fmt.Sprintf("%s tells callers by a name, and nothing beside it holds the name to its owner", f.text),
		Why:     fmt.Sprintf("names are given up, renamed and taken by somebody else, who then meets this condition; %s never changes hands", ids[0]),
		Rewrite: idRewrite(holder, claim, f),
	})
}

// pinned reports whether one of some claims is compared with fixed values.
func pinned(facts []fact, holder string, claims ...string) bool {
	return slices.ContainsFunc(facts, func(f fact) bool {
		of, claim, ok := claimOf(f.path)
		return ok && of == holder && f.isEquality() && slices.Contains(claims, claim)
	})
}

// subjectName finds subjects that are made of names. GitHub's and GitLab's begin with what they are
// made of; in GitHub's newer form each name bears its ID, as in repo:octo@1/app@2.
func (l *linter) subjectName(s *subject, f fact, beside []fact, holder string) {
	kinds := []struct {
		preset, prefix string
		ids            []string
	}{
		{"github-actions", "repo:", []string{"repository_id", "repository_owner_id"}},
		{"github-actions", "repository_owner:", []string{"repository_owner_id", "repository_id"}},
		{"gitlab", "project_path:", []string{"project_id"}},
		{"buildkite", "organization:", []string{"organization_id", "pipeline_id"}},
	}
	for _, k := range kinds {
		named := slices.ContainsFunc(f.values, func(v string) bool { return strings.HasPrefix(strings.TrimPrefix(v, "^"), k.prefix) && !bearsIDs(v) })
		computed := !f.literal && l.mayBeFrom(s, k.preset)
		if !named && !computed || pinned(beside, holder, k.ids...) {
			continue
		}
		l.report(f.place, Flaw{
			ID: "name-only-subject", Severity: SeverityError, Subject: s.String(),
			Message: fmt.Sprintf("%s tells callers by a subject that is made of names", f.text),
			Why:     "names are given up, renamed and taken by somebody else, who then has this subject; and a repository's or project's settings can change what its subjects are made of",
			Rewrite: subjectRewrite(holder, k.ids[0], f),
		})
		return
	}
}

// bearsIDs reports whether a subject has GitHub's newer form.
func bearsIDs(subject string) bool {
	rest, ok := strings.CutPrefix(subject, "repo:")
	owner, rest, _ := strings.Cut(rest, "/")
	repository, _, _ := strings.Cut(rest, ":")
	return ok && strings.Contains(owner, "@") && strings.Contains(repository, "@")
}

func (l *linter) displayName(s *subject, f fact) {
	l.report(f.place, Flaw{
		ID: "display-name", Severity: SeverityError, Subject: s.String(),
		Message: f.text + " tells people by the name that they are shown with",
		Why:     "people choose that name for themselves, and two may have the same",
		Rewrite: "principal.subject == \"SUBJECT\", which 'daypass whoami' shows, or a group that the identity provider keeps",
	})
}

func (l *linter) email(s *subject, f fact, beside []fact, holder string) {
	if pinned(beside, holder, "email_verified") {
		return
	}
	l.report(f.place, Flaw{
		ID: "unverified-email", Severity: SeverityError, Subject: s.String(),
		Message: f.text + " tells people by an address that nobody may have checked",
		Why:     "some identity providers let people write any address into their profile",
		Rewrite: fmt.Sprintf("%s && %s.claims.email_verified == true", f.text, holder),
	})
}
