package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// audiencesOfOthers are the values that tokens have by default, or for a well-known receiver: a token
// that was made for that one would be good here.
var audiencesOfOthers = map[string]string{
	"sts.amazonaws.com":              "AWS",
	"sts.amazonaws.com.cn":           "AWS",
	"api://azureadtokenexchange":     "Microsoft Entra ID",
	"sigstore":                       "Sigstore",
	"pypi":                           "PyPI",
	"testpypi":                       "PyPI",
	"rubygems.org":                   "RubyGems",
	"crates.io":                      "crates.io",
	"npm:registry.npmjs.org":         "npm",
	"vault":                          "Vault",
	"kubernetes":                     "every API server",
	"kubernetes.default.svc":         "every API server",
	"https://kubernetes.default.svc": "every API server",
	"https://gitlab.com":             "GitLab",
	"https://token.actions.githubusercontent.com": "GitHub",
	"account":                                "every client of a Keycloak realm",
	"api":                                    "any API",
	"default":                                "anybody",
	"public":                                 "anybody",
	"*":                                      "anybody",
	"32555940559.apps.googleusercontent.com": "the gcloud command line, which everybody with a Google account can use",
}

// audiences finds providers whose tokens are not made for this broker.
func (l *linter) audiences() {
	for i, p := range l.Providers {
		path := strictyaml.Index("identity_providers", i)
		if len(p.Audiences) == 0 {
			l.report(place{path: path}, Flaw{
				ID: "no-audience", Severity: SeverityError, Subject: named("identity provider", p.Name),
				Message: "no audience is set",
				Why:     "a token that its holder showed to any other service would be good here",
				Rewrite: "audiences: [https://daypass.example.com], the URL of this broker",
			})
		}
		for j, audience := range p.Audiences {
			if whose := general(p, audience); whose != "" {
				l.report(place{path: strictyaml.Index(path+".audiences", j)}, Flaw{
					ID: "general-audience", Severity: SeverityWarning, Subject: named("identity provider", p.Name),
					Message: fmt.Sprintf("the audience %s is that of %s", strconv.Quote(audience), whose),
					Why:     "tokens that are made for others have it too, and whoever gets to see one can use it here",
					Rewrite: "audiences: [https://daypass.example.com], the URL of this broker, and let callers ask for it",
				})
			}
		}
	}
}

// general says whom an audience means besides this broker; empty where nobody is known.
func general(p LintProvider, audience string) string {
	plain := strings.TrimRight(strings.ToLower(audience), "/")
	if whose := audiencesOfOthers[plain]; whose != "" {
		return whose
	}
	rest, isURL := strings.CutPrefix(plain, "https://")
	host, path, _ := strings.Cut(rest, "/")
	switch {
	case isURL && host == "github.com" && path != "" && !strings.Contains(path, "/"):
		return "every job of " + path + " that asks for none (GitHub's default)"
	case isURL && host == "buildkite.com" && path != "":
		return "every job of " + path + " that asks for none (Buildkite's default)"
	case strings.HasPrefix(plain, "ari:cloud:bitbucket::workspace/"):
		return "every pipeline of the workspace (Bitbucket's default)"
	case p.Preset == "circleci" && p.Issuer != "" && strings.HasSuffix(strings.ToLower(p.Issuer), "/org/"+plain):
		return "every job of the organization (CircleCI's default)"
	case p.Issuer != "" && plain == strings.TrimRight(strings.ToLower(p.Issuer), "/"):
		return "the issuer itself"
	}
	return ""
}

// provider finds conditions that hold for callers of any provider, or of any tenant of one.
func (l *linter) provider(s *subject) {
	if s.broken || len(s.texts) == 0 {
		return
	}
	path := s.path + ".who"
	if s.kind == "role" {
		path = s.path
	}
	named := s.condition.ensures(func(f fact) bool { return f.path == "principal.provider" || f.path == "principal.issuer" })
	if s.refuses() {
		if len(l.Providers) > 1 && !named && s.readsPrincipal() {
			l.denyOnUnknown(s, path)
		}
		return
	}
	if len(l.Providers) > 1 && !named && s.readsPrincipal() {
		l.report(place{path: path}, Flaw{
			ID: "any-provider", Severity: SeverityWarning, Subject: s.String(),
			Message: fmt.Sprintf("no provider is named, so that callers of all %d can meet it", len(l.Providers)),
			Why:     "another provider's tokens may have a claim or group of the same name, and its callers learn why they are refused only where one is named",
			Rewrite: fmt.Sprintf("principal.provider == %q && …, or another one", l.Providers[0].Name),
		})
	}
	for _, p := range l.providersOf(s) {
		if t, shared := tenants[strings.TrimRight(p.Issuer, "/")]; shared && !s.condition.ensures(t.isTold) {
			l.report(place{path: path}, Flaw{
				ID: "every-tenant", Severity: SeverityError, Subject: s.String(),
				Message: fmt.Sprintf("nothing says which %s it must be, and provider %q vouches for those of everybody", t.what, p.Name),
				Why:     fmt.Sprintf("whoever has an account at %s can make a token that meets this", p.Issuer),
				Rewrite: fmt.Sprintf("… && principal.claims.%s == \"ID\"", t.claims[0]),
			})
		}
	}
}

// denyOnUnknown finds deny rules that refuse callers of whom nothing is known.
func (l *linter) denyOnUnknown(s *subject, path string) {
	l.report(place{path: path}, Flaw{
		ID: "deny-on-unknown", Severity: SeverityWarning, Subject: s.String(),
		Message: fmt.Sprintf("no provider is named, and callers of all %d are held against it", len(l.Providers)),
		Why:     "a condition of a deny rule that can't be evaluated counts as true, so that callers without these groups or claims in their tokens are refused too",
		Rewrite: fmt.Sprintf("principal.provider == %q && …, or another one", l.Providers[0].Name),
	})
}

// tenant is what tells the callers of an issuer that everybody can use from one another.
type tenant struct {
	what   string
	claims []string
}

var tenants = map[string]tenant{
	"https://token.actions.githubusercontent.com": {"repository", []string{
		"repository_id", "repository_owner_id", "repository", "repository_owner", "enterprise_id", "enterprise", "actor_id", "workflow_ref", "sub",
	}},
	"https://gitlab.com": {"project", []string{
		"project_id", "namespace_id", "project_path", "namespace_path", "job_project_id", "job_namespace_id", "job_project_path", "job_namespace_path", "user_id", "sub",
	}},
	"https://agent.buildkite.com": {"pipeline", []string{"pipeline_id", "organization_id", "pipeline_slug", "organization_slug", "cluster_id", "queue_id", "sub"}},
	"https://oidc.circleci.com":   {"project", []string{"oidc.circleci.com/project-id", "oidc.circleci.com/org-id", vcsOrigin, "sub"}},
	"https://accounts.google.com": {"person", []string{"sub", "email", "hd"}},
}

// isTold reports whether a fact says who of the tenants it must be.
func (t tenant) isTold(f fact) bool {
	if strings.HasPrefix(f.op, "not ") || f.op == "present" {
		return false
	}
	_, claim, _ := claimOf(f.path)
	return slices.Contains(t.claims, claim) || f.path == "principal.subject" || f.path == "principal.groups"
}

// readsPrincipal reports whether a condition is about who asks.
func (s *subject) readsPrincipal() bool {
	reads := false
	s.condition.each(func(f fact, _ []fact) { reads = reads || strings.HasPrefix(f.path, "principal.") })
	return reads
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
