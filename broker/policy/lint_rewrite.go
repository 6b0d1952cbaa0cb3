package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// idRewrite is a comparison of a name with the ID in its place, and how the ID is found.
func idRewrite(holder, claim string, f fact) string {
	id := lasting[claim][0]
	values := trimmed(f.values)
	if claim == "job_workflow_ref" || claim == "workflow_ref" {
		return fmt.Sprintf("%s && %s.claims.%s == %q", f.text, holder, id, "ID of the repository")
	}
	if claim == "repository" && (f.op == "startsWith" || f.op == "matches") && len(values) == 1 {
		if owner, rest, ok := strings.Cut(values[0], "/"); ok && isWord(owner) && !isWord(rest) {
			return compare(holder, "repository_owner_id", []string{owner}) + howToFind("repository_owner_id", []string{owner})
		}
	}
	return compare(holder, id, values) + howToFind(id, values)
}

// compare writes a comparison with the IDs of things, whose names stand for them.
func compare(holder, claim string, names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote("ID of " + n)
	}
	switch len(quoted) {
	case 0:
		return fmt.Sprintf("%s.claims.%s == %q", holder, claim, "ID")
	case 1:
		return fmt.Sprintf("%s.claims.%s == %s", holder, claim, quoted[0])
	}
	return fmt.Sprintf("%s.claims.%s in [%s]", holder, claim, strings.Join(quoted, ", "))
}

// howToFind tells how an ID is looked up, where there is a command for it.
func howToFind(claim string, names []string) string {
	if len(names) == 0 || !isWord(strings.ReplaceAll(names[0], "/", "-")) {
		return ""
	}
	name := names[0]
	switch claim {
	case "repository_id":
		return fmt.Sprintf("; find it with: gh api repos/%s --jq .id", name)
	case "repository_owner_id", "actor_id":
		return fmt.Sprintf("; find it with: gh api users/%s --jq .id", name)
	case "project_id", "job_project_id":
		return fmt.Sprintf("; find it with: glab api projects/%s --jq .id", strings.ReplaceAll(name, "/", "%2F"))
	case "namespace_id", "job_namespace_id":
		return fmt.Sprintf("; find it with: glab api namespaces/%s --jq .id", strings.ReplaceAll(name, "/", "%2F"))
	}
	return ""
}

// subjectRewrite takes a subject apart into comparisons of what it is made of.
func subjectRewrite(holder, id string, f fact) string {
	values := trimmed(f.values)
	if len(values) != 1 {
		return compare(holder, id, nil) + ", and a comparison of each other claim that the subject stands for"
	}
	prefix, rest, _ := strings.Cut(values[0], ":")
	name, rest, _ := strings.Cut(rest, ":")
	if prefix == "organization" || name == "" {
		return compare(holder, id, nil) + ", and a comparison of each other claim that the subject stands for"
	}
	if prefix == "repo" && strings.HasSuffix(name, "/") || prefix == "repo" && strings.HasSuffix(name, "/*") {
		name, id = strings.TrimRight(name, "/*"), "repository_owner_id"
	}
	out := compare(holder, id, []string{name})
	if also := subjectRest(holder, prefix, rest); also != "" {
		out += " && " + also
	}
	return out + howToFind(id, []string{name})
}

// subjectRest returns what follows the repository or project in a subject, as a condition.
func subjectRest(holder, prefix, rest string) string {
	equal := func(claim, value string) string { return fmt.Sprintf("%s.claims.%s == %q", holder, claim, value) }
	key, value, _ := strings.Cut(rest, ":")
	switch {
	case !isWord(strings.ReplaceAll(value, "/", "-")) && key != "pull_request":
		return ""
	case prefix == "project_path" && key == "ref_type":
		kind, ref, _ := strings.Cut(value, ":ref:")
		return equal("ref_type", kind) + " && " + equal("ref", ref) + " && " + equal("ref_protected", "true")
	case key == "ref", key == "environment":
		return equal(key, value)
	case key == "pull_request":
		return equal("event_name", "pull_request")
	}
	return ""
}

// trimmed returns patterns without what anchors them, so that they read as names.
func trimmed(patterns []string) []string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		p = strings.TrimSuffix(strings.TrimPrefix(p, "^"), "$")
		p = strings.TrimSuffix(strings.TrimSuffix(p, ".*"), ".+")
		out[i] = strings.ReplaceAll(p, `\`, "")
	}
	return out
}

// isWord reports whether a text can be a name in a command line as it is.
func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && r != ':' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
