package identitytest

import (
	"crypto/rand"
	"strings"
	"time"
)

// PersonClaims returns the claims of somebody who signed in, good for an hour.
func (i *Issuer) PersonClaims(audience, subject string, groups ...string) map[string]any {
	now := i.Now().Unix()
	return map[string]any{
		"iss": i.url, "sub": subject, "aud": audience, "iat": now, "exp": now + 3600,
		"name": "Name of " + subject, "email": subject + "@example.com", "email_verified": true,
		"preferred_username": subject, "groups": groups, "nonce": "n-0S6", "auth_time": now,
	}
}

// GitHubJob says which GitHub Actions job a token is for. Zero fields have an example's value.
type GitHubJob struct {
	Repository   string        // "example-org/example-repo"
	RepositoryID string        // "300400500"
	OwnerID      string        // "100200"
	Ref          string        // "refs/heads/main"
	Event        string        // "push"
	Environment  string        // none
	Immutable    bool          // the form of sub that repositories made after 15 July 2026 have
	Life         time.Duration // from iat to exp: 5 minutes; 6 hours have been seen
}

// GitHubClaims returns the claims of a GitHub Actions job, all strings but the times
// (https://docs.github.com/en/actions/reference/security/oidc).
func (i *Issuer) GitHubClaims(audience string, job GitHubJob) map[string]any {
	job = job.withDefaults()
	owner, name, _ := strings.Cut(job.Repository, "/")
	workflow := job.Repository + "/.github/workflows/deploy.yml@" + job.Ref
	sha := strings.Repeat("0123456789", 4)
	now := i.Now().Unix()
	claims := map[string]any{
		"iss": i.url, "sub": job.subject(owner, name), "aud": audience, "jti": newID(),
		"iat": now, "nbf": now - 300, "exp": now + int64(job.Life.Seconds()),
		"actor": "example-user", "actor_id": "700800", "base_ref": "", "head_ref": "", "check_run_id": "12345678901",
		"event_name": job.Event, "job_workflow_ref": workflow, "job_workflow_sha": sha, "workflow": "deploy",
		"workflow_ref": workflow, "workflow_sha": sha, "ref": job.Ref, "ref_type": refType(job.Ref), "ref_protected": "true",
		"repository": job.Repository, "repository_id": job.RepositoryID, "repository_owner": owner,
		"repository_owner_id": job.OwnerID, "repository_visibility": "private", "run_id": "9001002003",
		"run_number": "42", "run_attempt": "1", "runner_environment": "github-hosted", "sha": sha,
	}
	if job.Environment != "" {
		claims["environment"] = job.Environment
	}
	return claims
}

func (j GitHubJob) withDefaults() GitHubJob {
	j.Repository = orElse(j.Repository, "example-org/example-repo")
	j.RepositoryID = orElse(j.RepositoryID, "300400500")
	j.OwnerID = orElse(j.OwnerID, "100200")
	j.Ref = orElse(j.Ref, "refs/heads/main")
	j.Event = orElse(j.Event, "push")
	if j.Life == 0 {
		j.Life = 5 * time.Minute
	}
	return j
}

// subject returns sub: the environment comes first, then a pull request, then the ref; a colon in a
// value becomes %3A.
func (j GitHubJob) subject(owner, name string) string {
	escape := strings.NewReplacer(":", "%3A").Replace
	repo := "repo:" + owner + "/" + name
	if j.Immutable {
		repo = "repo:" + owner + "@" + j.OwnerID + "/" + name + "@" + j.RepositoryID
	}
	switch {
	case j.Environment != "":
		return repo + ":environment:" + escape(j.Environment)
	case j.Event == "pull_request":
		return repo + ":pull_request"
	}
	return repo + ":ref:" + escape(j.Ref)
}

func refType(ref string) string {
	if strings.HasPrefix(ref, "refs/tags/") {
		return "tag"
	}
	return "branch"
}

// GitLabJob says which GitLab CI job a token is for. Zero fields have an example's value.
type GitLabJob struct {
	Project   string        // "example-group/example-project"
	ProjectID string        // "301"
	Ref       string        // "main"
	Source    string        // "push"
	Unguarded bool          // the ref is not protected
	Timeout   time.Duration // of the job, and so from iat to exp: 1 hour

	// JobProject and JobProjectID are where the job runs, which for a merge request from a fork is
	// not the project that sub and project_path name. They default to Project and ProjectID.
	JobProject, JobProjectID string
}

// GitLabClaims returns the claims of a GitLab CI job: strings, but a number for runner_id, null for
// what a job does not have, and nbf five seconds early
// (https://docs.gitlab.com/ci/secrets/id_token_authentication/).
func (i *Issuer) GitLabClaims(audience string, job GitLabJob) map[string]any {
	job = job.withDefaults()
	now := i.Now().Unix()
	protected := "true"
	if job.Unguarded {
		protected = "false"
	}
	return map[string]any{
		"iss": i.url, "sub": "project_path:" + job.Project + ":ref_type:branch:ref:" + job.Ref, "aud": audience,
		"jti": newID(), "iat": now, "nbf": now - 5, "exp": now + int64(job.Timeout.Seconds()),
		"namespace_id": "77", "namespace_path": namespace(job.Project), "project_id": job.ProjectID, "project_path": job.Project,
		"user_id": "88", "user_login": "example-user", "user_email": "example-user@example.com", "user_access_level": "developer",
		"user_identities": []any{}, "pipeline_id": "574", "pipeline_source": job.Source, "job_id": "302",
		"ref": job.Ref, "ref_type": "branch", "ref_path": "refs/heads/" + job.Ref, "ref_protected": protected,
		"groups_direct": []string{namespace(job.Project)}, "runner_id": 1, "runner_environment": "gitlab-hosted",
		"sha": strings.Repeat("9876543210", 4), "ci_config_ref_uri": nil, "ci_config_sha": nil, "project_visibility": "private",
		"job_namespace_id": "77", "job_namespace_path": namespace(job.JobProject),
		"job_project_id": job.JobProjectID, "job_project_path": job.JobProject,
	}
}

func (j GitLabJob) withDefaults() GitLabJob {
	j.Project = orElse(j.Project, "example-group/example-project")
	j.ProjectID = orElse(j.ProjectID, "301")
	j.Ref = orElse(j.Ref, "main")
	j.Source = orElse(j.Source, "push")
	j.JobProject = orElse(j.JobProject, j.Project)
	j.JobProjectID = orElse(j.JobProjectID, j.ProjectID)
	if j.Timeout == 0 {
		j.Timeout = time.Hour
	}
	return j
}

func namespace(project string) string { return project[:strings.LastIndexByte(project, '/')] }

// newID returns a jti that no other token has, in this process or in another.
func newID() string { return "id-" + rand.Text() }

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
