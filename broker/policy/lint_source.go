package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// writesLabel is the label of a target whose credential can write to repositories: a list, with
// commas, of names such as github.com/octo/policy, in which * stands for any characters.
const writesLabel = "writes"

// policySource finds grants whose holder can change the rules.
func (l *linter) policySource() {
	if l.PolicySource == "" {
		return
	}
	for i, r := range l.Source.Rules {
		for j, m := range r.May {
			for _, t := range l.targetsOf(m.Target) {
				if how := l.writes(t, m); how != "" {
					l.report(place{path: strictyaml.Index(strictyaml.Index("rules", i)+".may", j)}, Flaw{
						ID: "writes-policy-source", Severity: SeverityError, Subject: named("rule", r.Name),
						Message: fmt.Sprintf("target %q can write to %s, which holds these rules: %s", t.Name, l.PolicySource, how),
						Why:     "whoever has this grant can write rules that give them everything else",
						Rewrite: "bound the repositories so that this one is not among them, or keep the rules where only a reviewed merge can change them, and say so: # lint:ignore writes-policy-source REASON",
					})
				}
			}
		}
	}
}

// writes says how a target's credential can write to the policy's source; empty where it can't, as
// far as the file tells: by its label, or by the repositories that it is for.
func (l *linter) writes(t Target, m May) string {
	if label, ok := t.Labels[writesLabel]; ok {
		if listed(label, l.PolicySource) {
			return fmt.Sprintf("its label %s is %q", writesLabel, label)
		}
		return ""
	}
	driver := l.Drivers[t.Credential.Issuer]
	if !strings.HasPrefix(driver, "github") || isReadOnly(t.Credential.Params["permissions"]) || isReadOnly(t.Credential.Params["contents"]) {
		return ""
	}
	for _, name := range []string{"repositories", "repository"} {
		if fixed, ok := t.Credential.Params[name]; ok {
			if listed(fixed, l.PolicySource) {
				return fmt.Sprintf("its parameter %s is %q", name, fixed)
			}
			return ""
		}
		if p, ok := m.Params[name]; ok && (p.Required || p.Default != "") {
			for _, pattern := range slices.Concat(p.OneOf, p.AnyOf) {
				if listed(pattern, l.PolicySource) {
					return fmt.Sprintf("the rule's parameter %s may be %q", name, pattern)
				}
			}
			return ""
		}
	}
	return fmt.Sprintf("issuer %q (%s) mints for every repository that it has, and neither target nor rule bounds them", t.Credential.Issuer, driver)
}

// isReadOnly reports whether permissions, as "contents:read,issues:write" or "read", keep from writing
// a repository's contents.
func isReadOnly(permissions string) bool {
	if permissions == "" {
		return false
	}
	for one := range strings.SplitSeq(permissions, ",") {
		name, level, named := strings.Cut(strings.NewReplacer("=", ":", " ", "").Replace(one), ":")
		if !named {
			level = name
			name = "contents"
		}
		if (name == "contents" || name == "administration" || name == "workflows") && level != "read" {
			return false
		}
	}
	return true
}

// listed reports whether a list with commas has a repository: as HOST/OWNER/NAME, OWNER/NAME or NAME.
func listed(list, repository string) bool {
	parts := strings.Split(strings.TrimSuffix(repository, ".git"), "/")
	for pattern := range strings.SplitSeq(list, ",") {
		pattern = strings.TrimSpace(pattern)
		for i := range parts {
			if pattern != "" && glob.Pattern(pattern).Match(strings.Join(parts[i:], "/")) {
				return true
			}
		}
	}
	return false
}
