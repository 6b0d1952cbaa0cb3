package identity_test

import (
	"maps"
	"testing"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

// TestSameCaller holds for each claim set: a later token of the same caller is the same, with whatever
// changes from job to job, and one whose immutable claim differs is not.
func TestSameCaller(t *testing.T) {
	i := unserved(t)
	for fixture, test := range map[string]struct{ changes, immutable map[string]any }{
		"github-actions.push":      {set("run_id", "9"), set("repository_id", "9")},
		"github-actions.immutable": {set("sha", "9"), set("repository_owner_id", "9")},
		"gitlab.branch":            {set("pipeline_id", "9"), set("project_id", "9")},
		"gitlab.self-managed":      {set("user_id", "9"), set("job_project_id", "9")},
		"buildkite.default":        {set("build_number", 9), set("pipeline_id", "9")},
		"buildkite.with-ids":       {set("job_id", "9"), set("organization_id", "9")},
		"circleci.v1":              {set("oidc.circleci.com/job-id", "9"), set("oidc.circleci.com/project-id", "9")},
		"kubernetes.projected":     {set("jti", "9"), set("kubernetes.io", map[string]any{"namespace": "payments", "serviceaccount": map[string]any{"name": "deployer", "uid": "9"}})},
		"bitbucket.step":           {set("branchName", "9"), set("repositoryUuid", "{9}")},
		"azure-devops.pipeline":    {set("run_id", "9"), set("prj_id", "9")},
		"aws-workload.role":        {set("jti", "9"), set("https://sts.amazonaws.com/", map[string]any{"aws_account": "9"})},
		"entra.groups":             {set("uti", "9"), set("oid", "9")},
		"spiffe.spire":             {set("jti", "9"), set("sub", "spiffe://example.org/other")},
		"google.workspace":         {set("email", "other@example.com"), set("sub", "9")},
		"okta.org":                 {set("groups", []string{}), set("sub", "9")},
		"generic.keycloak":         {set("acr", "2"), set("sub", "9")},
	} {
		p := at(i, presetFor(t, fixture))
		v := newVerifier(t, atNoon, p)
		first := principalOf(t, v, i, i.Claims(fixture, ""), nil)
		later := principalOf(t, v, i, i.Claims(fixture, ""), test.changes)
		other := principalOf(t, v, i, i.Claims(fixture, ""), test.immutable)
		if !v.SameCaller(first, later) || !v.SameCaller(later, first) {
			t.Errorf("%s: not the same after a change of %v", fixture, test.changes)
		}
		if v.SameCaller(first, other) || v.SameCaller(other, first) {
			t.Errorf("%s: the same after a change of %v", fixture, test.immutable)
		}
	}
}

func principalOf(t *testing.T, v *identity.Verifier, i *identitytest.Issuer, claims, changes map[string]any) cred.Principal {
	t.Helper()
	maps.Copy(claims, changes)
	got, err := v.Verify(t.Context(), i.Sign(claims))
	if err != nil {
		t.Fatal(err)
	}
	return got.Principal
}

// TestSameCallerFailsClosed: an immutable claim that only one has, a provider that is not configured (any
// more), or one of another name, and nobody is the same.
func TestSameCallerFailsClosed(t *testing.T) {
	i := unserved(t)
	p := at(i, presetFor(t, "github-actions.push"))
	v := newVerifier(t, atNoon, p)
	who := principalOf(t, v, i, i.Claims("github-actions.push", ""), nil)
	without := who.Clone()
	delete(without.Claims, "repository_id")
	null := who.Clone()
	null.Claims["repository_id"] = nil
	renamed := who.Clone()
	renamed.Provider = "another"
	for name, pair := range map[string][2]cred.Principal{
		"absent in one": {who, without}, "null in one": {without, null}, "other provider": {who, renamed},
		"renamed": {renamed, renamed}, "nobody": {cred.Principal{}, cred.Principal{}},
	} {
		if v.SameCaller(pair[0], pair[1]) || v.SameCaller(pair[1], pair[0]) {
			t.Errorf("%s: the same", name)
		}
	}
	if !v.SameCaller(without, without) {
		t.Error("a claim that both lack makes them differ")
	}
	gone := newVerifier(t, atNoon, provider(unserved(t)))
	if gone.SameCaller(who, who) {
		t.Error("a caller of a provider that is not configured is the same")
	}
}
