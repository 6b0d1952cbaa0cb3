package github

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicApp     = "GitHub does not accept the broker's GitHub App; its operator has to look at the app's ID, its private key and the broker's clock"
	publicRefused = "GitHub refused to make this token: the app's installation lacks one of the repositories or permissions, or is suspended; its operator has to look at it"
	publicLimited = "GitHub limits how often the broker may ask; try again later"
	publicGone    = "GitHub can't be reached; try again in a moment"
	publicLost    = "GitHub did not answer, so it is not known whether a token was made; one that was made ends by itself within an hour, and nobody has it; try again"
)

// problem is the body of GitHub's errors.
type problem struct {
	Message string `json:"message"`
	URL     string `json:"documentation_url"`
}

// readRefusal reads an answer that is not what was wanted.
func readRefusal(got tokenapi.Answer) (said string, limited time.Duration) {
	var p problem
	_ = json.Unmarshal(got.Body, &p) // a body that is none says nothing
	return p.Message, limitOf(got, p.URL)
}

// limitOf returns how long a rate limit lasts, zero where the answer is about none. GitHub answers
// 403 or 429; it says how long in Retry-After, or with nothing remaining until a reset; else a
// minute is the least to wait.
// https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
func limitOf(got tokenapi.Answer, documentation string) time.Duration {
	used := got.Header.Get("X-RateLimit-Remaining") == "0"
	switch {
	case got.Status != http.StatusForbidden && got.Status != http.StatusTooManyRequests:
		return 0
	case used:
		return got.LimitedFor("X-RateLimit-Reset")
	case got.Status == http.StatusTooManyRequests || got.Header.Get("Retry-After") != "" || strings.Contains(documentation, "rate-limit"):
		return got.LimitedFor("")
	}
	return 0
}

// harmless turns the failure of a request that makes no token into our error: whatever the cause,
// nothing was issued.
func harmless(op string, err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	public := publicGone
	switch failed := tokenapi.CallOf(err); {
	case failed == nil:
	case failed.Limited > 0:
		return issuer.Limited(op, publicLimited, failed.Limited, failed)
	case failed.Answer.Status >= 300 && failed.Answer.Status < 500:
		public = publicApp
	}
	return issuer.NotIssued(op, "", public, err)
}

// minting turns the failure of the request that mints into our error. GitHub refuses with 4xx before
// it makes anything; with 5xx, or no answer, it may have gone further.
func minting(err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	switch failed := tokenapi.CallOf(err); {
	case failed != nil && failed.Limited > 0:
		return issuer.Limited(opIssue, publicLimited, failed.Limited, failed)
	case failed != nil && failed.Unsent:
		return issuer.NotIssued(opIssue, "", publicGone, err)
	case tokenapi.StatusOf(err) == http.StatusUnauthorized:
		return issuer.NotIssued(opIssue, "", publicApp, err)
	case tokenapi.StatusOf(err) >= 300 && tokenapi.StatusOf(err) < 500:
		return &cred.Error{Kind: cred.Invalid, Op: opIssue, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return lost(err)
	}
}

// lost says that a token may exist of which we know nothing.
func lost(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: opIssue, Reason: "ANSWER_LOST", Public: publicLost, Err: err}
}
