package jobs

import (
	"slices"

	"github.com/daypass-io/daypass/cred"
)

// gitlabOver are the states that a job or pipeline does not leave: a retry makes another job
// (https://docs.gitlab.com/ci/jobs/#available-job-statuses). "canceling" still runs its after_script.
var gitlabOver = []string{"success", "failed", "canceled", "skipped"}

// gitlabJobs asks for the job, or for its pipeline where the token names no job. A merge request's job
// from a fork runs in another project than that of project_id
// (https://docs.gitlab.com/api/jobs/#get-a-single-job, https://docs.gitlab.com/api/pipelines/).
func gitlabJobs(p cred.Principal) []question {
	project := claim(p, "job_project_id")
	if project == "" {
		project = claim(p, "project_id")
	}
	if !number.MatchString(project) {
		return nil
	}
	if job := claim(p, "job_id"); number.MatchString(job) {
		return []question{{place: project, path: "/projects/" + project + "/jobs/" + job, read: readGitlab("the job")}}
	}
	if pipeline := claim(p, "pipeline_id"); number.MatchString(pipeline) {
		return []question{{place: project, path: "/projects/" + project + "/pipelines/" + pipeline, read: readGitlab("the pipeline")}}
	}
	return nil
}

func readGitlab(what string) func([]byte) (verdict, error) {
	return func(body []byte) (verdict, error) {
		var got struct {
			Status string `json:"status"`
		}
		if err := decode(body, &got); err != nil {
			return verdict{}, err
		}
		if !slices.Contains(gitlabOver, got.Status) {
			return verdict{}, nil
		}
		return verdict{true, what + " is over" + in(got.Status)}, nil
	}
}
