// Package jobs asks CI providers whether a job is over: GitHub Actions and GitLab CI/CD.
//
// A Watcher knows one source for each identity provider whose tokens jobs sign in with. The claims of a
// principal name its job; what the API says of that job is all that counts, so a job whose runner was
// killed is over as soon as its provider says so. What can't be learnt is an error and never an end.
//
// Requests carry the ETag of the answer before, which GitHub does not count against its limits, and a
// source that limits us is left alone until it says.
package jobs
