package identity

import (
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// githubActions is for https://docs.github.com/en/actions/reference/security/oidc. The two events run
// with the base repository's identity while they may execute a fork's code. A job can ask for a new
// token at any time, so that each counts once.
func githubActions() preset {
	const issuer = "https://token.actions.githubusercontent.com"
	return preset{
		name: "github-actions", keys: []string{"enterprise", "host"},
		provider: Provider{
			Name: "github-actions", Issuer: issuer,
			Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: DefaultWorkloadMaxAge, OneTime: true,
			CautionClaims: map[string][]string{"event_name": {"pull_request_target", "workflow_run"}},
			Immutable:     []Path{{"repository_id"}, {"repository_owner_id"}},
		},
		issuer: func(at Place) (string, []Problem) {
			switch {
			case at.Host != "" && at.Enterprise != "":
				return "", []Problem{{"enterprise", "is for github.com, and host names another server", ""}}
			case at.Enterprise != "" && !slugForm.MatchString(at.Enterprise):
				return "", []Problem{{"enterprise", "must be the enterprise's slug, as in github.com/enterprises/SLUG", ""}}
			case at.Enterprise != "":
				return issuer + "/" + at.Enterprise, nil
			case at.Host != "":
				return githubHost(at.Host)
			}
			return issuer, nil
		},
	}
}

// githubHost returns the issuer of a GitHub Enterprise Server, or of a subdomain of GHE.com.
func githubHost(host string) (string, []Problem) {
	subdomain, isGHE := strings.CutSuffix(host, ".ghe.com")
	switch {
	case !validHost(host) || host == "ghe.com" || isGHE && strings.ContainsAny(subdomain, ".:"):
		return "", badHost()
	case host == "github.com":
		return "", []Problem{{"host", "is for GitHub Enterprise Server and GHE.com; github.com needs none", ""}}
	case isGHE:
		return "https://token.actions." + host, nil
	}
	return "https://" + host + "/_services/token", nil
}

// gitlab is for https://docs.gitlab.com/ci/secrets/id_token_authentication/. A job's token is minted
// when the job starts and cannot be fetched again, so it may be as old as a job gets by default.
func gitlab() preset {
	return preset{
		name: "gitlab", keys: []string{"host"},
		provider: Provider{
			Name: "gitlab", Issuer: "https://gitlab.com", Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: time.Hour,
			Immutable: []Path{{"project_id"}, {"namespace_id"}, {"job_project_id"}, {"job_namespace_id"}},
		},
		issuer: func(at Place) (string, []Problem) {
			switch {
			case at.Host == "":
				return "", nil
			case !validHost(at.Host):
				return "", badHost()
			}
			return "https://" + at.Host, nil
		},
	}
}

// buildkite is for https://buildkite.com/docs/agent/cli/reference/oidc. The IDs are there only where
// the job asked for them.
func buildkite() preset {
	return preset{
		name: "buildkite",
		provider: Provider{
			Name: "buildkite", Issuer: "https://agent.buildkite.com", Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: DefaultWorkloadMaxAge,
			Immutable: []Path{{"organization_id"}, {"pipeline_id"}},
		},
	}
}

// circleci is for https://circleci.com/docs/openid-connect-tokens/. A job that somebody reruns with SSH
// is in that person's hands, so its tokens are refused.
func circleci() preset {
	const root = "https://oidc.circleci.com"
	return preset{
		name: "circleci", keys: []string{"organization"}, shared: []string{root},
		provider: Provider{
			Name: "circleci", Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: time.Hour,
			RefuseClaims: map[string][]string{"oidc.circleci.com/ssh-rerun": {"true"}},
			Immutable:    []Path{{"oidc.circleci.com/org-id"}, {"oidc.circleci.com/project-id"}},
		},
		issuer: func(at Place) (string, []Problem) {
			return uuidIn("organization", at.Organization, root+"/org/", "")
		},
	}
}

// bitbucket is for
// https://support.atlassian.com/bitbucket-cloud/docs/integrate-pipelines-with-resource-servers-using-oidc/.
// A step gets one token when it starts.
func bitbucket() preset {
	return preset{
		name: "bitbucket", keys: []string{"workspace"},
		provider: Provider{
			Name: "bitbucket", Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: time.Hour,
			Immutable: []Path{{"workspaceUuid"}, {"repositoryUuid"}},
		},
		issuer: func(at Place) (string, []Problem) {
			switch {
			case at.Workspace == "":
				return "", []Problem{{"workspace", "is missing", "or set issuer"}}
			case !slugForm.MatchString(at.Workspace):
				return "", []Problem{{"workspace", "must be the workspace's name, as in bitbucket.org/WORKSPACE", ""}}
			}
			return "https://api.bitbucket.org/2.0/workspaces/" + at.Workspace + "/pipelines-config/identity/oidc", nil
		},
	}
}

// azureDevOps is for pipelines' tokens of
// https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create. Their audience is
// always api://AzureADTokenExchange.
func azureDevOps() preset {
	return preset{
		name: "azure-devops", keys: []string{"organization"},
		provider: Provider{
			Name: "azure-devops", Kind: cred.KindWorkload, Algorithms: []string{"RS256"}, MaxAge: DefaultWorkloadMaxAge,
			Immutable: []Path{{"org_id"}, {"prj_id"}, {"def_id"}, {"rpo_id"}},
		},
		issuer: func(at Place) (string, []Problem) {
			return uuidIn("organization", at.Organization, "https://vstoken.dev.azure.com/", "")
		},
	}
}
