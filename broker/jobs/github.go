package jobs

import (
	"regexp"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// Claims become parts of an address, so they are held to what IDs and names are made of.
var (
	number     = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
	repository = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$`)
)

// githubHeader asks for a version that github.com and every supported GHES know.
var githubHeader = map[string]string{"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

// githubJobs asks for the job itself where the token names it (check_run_id is the ID of both), else for
// its run's attempt, which is over when all of its jobs are
// (https://docs.github.com/en/rest/actions/workflow-jobs#get-a-job-for-a-workflow-run,
// https://docs.github.com/en/rest/actions/workflow-runs#get-a-workflow-run-attempt).
func githubJobs(p cred.Principal) []question {
	repo, run := claim(p, "repository"), claim(p, "run_id")
	if !repository.MatchString(repo) || strings.Contains("/"+repo+"/", "/./") || strings.Contains("/"+repo+"/", "/../") || !number.MatchString(run) {
		return nil
	}
	var all []question
	if job := claim(p, "check_run_id"); number.MatchString(job) {
		all = append(all, question{
			place: repo, path: "/repos/" + repo + "/actions/jobs/" + job, header: githubHeader, orElse: true,
			read: func(body []byte) (verdict, error) { return readGithub(body, run, "the job") },
		})
	}
	attempt := claim(p, "run_attempt")
	if attempt == "" {
		attempt = "1"
	}
	if number.MatchString(attempt) {
		all = append(all, question{
			place: repo, path: "/repos/" + repo + "/actions/runs/" + run + "/attempts/" + attempt, header: githubHeader,
			read: func(body []byte) (verdict, error) { return readGithub(body, "", "the run") },
		})
	}
	return all
}

// readGithub reads a job or a run. A job of another run than the token's is not the one that is meant.
func readGithub(body []byte, run, what string) (verdict, error) {
	var got struct {
		RunID      jsonNumber `json:"run_id"`
		Status     string     `json:"status"`
		Conclusion string     `json:"conclusion"`
	}
	if err := decode(body, &got); err != nil {
		return verdict{}, err
	}
	if run != "" && string(got.RunID) != run {
		return verdict{}, &cred.Error{Kind: cred.NotFound, Op: "jobs", Reason: "JOB_UNKNOWN", Public: "GitHub's job of this ID is of another run"}
	}
	if got.Status != "completed" {
		return verdict{}, nil
	}
	return verdict{true, what + " is completed" + in(got.Conclusion)}, nil
}

// in names how something ended, in words that a provider may be trusted to choose from.
func in(conclusion string) string {
	if !word.MatchString(conclusion) {
		return ""
	}
	return ": " + conclusion
}

var word = regexp.MustCompile(`^[a-z_]{1,40}$`)

// claim returns a claim as text, empty where there is none.
func claim(p cred.Principal, name string) string {
	value := p.Claims[name]
	text, ok := cred.ClaimText(value)
	if !ok || value == nil {
		return ""
	}
	return text
}

// jsonNumber is a number or a string as it was written.
type jsonNumber string

// UnmarshalJSON keeps the text of a number.
func (n *jsonNumber) UnmarshalJSON(b []byte) error {
	*n = jsonNumber(strings.Trim(string(b), `"`))
	return nil
}
