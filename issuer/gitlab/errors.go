package gitlab

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicRoot    = "GitLab does not accept the broker's own token; its operator has to look whether it has ended, and has the scope api"
	publicRefused = "GitLab refused to make this token: the project may not exist, or the broker's own token lacks the role there; its operator has to look at it"
	publicLimited = "GitLab limits how often the broker may ask; try again later"
	publicGone    = "GitLab can't be reached; try again in a moment"
	publicLost    = "GitLab did not answer, so it is not known whether a token was made; the broker revokes one that was; try again"
)

// message returns what GitLab says of a refusal: "message" is a text, a list or an object, "error" a
// word. Whatever else there is may be anything and is not kept.
func message(body []byte) string {
	var said struct {
		Message     json.RawMessage `json:"message"`
		Error       string          `json:"error"`
		Description string          `json:"error_description"`
	}
	_ = json.Unmarshal(body, &said) // a body that is none says nothing
	return string(said.Message) + said.Error + " " + said.Description
}

// readRefusal reads an answer that is not what was wanted. Only a 429 is about a rate limit; it says how
// long in Retry-After, or by the Unix time in RateLimit-Reset.
// https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/#response-headers
func readRefusal(got tokenapi.Answer) (said string, limited time.Duration) {
	if got.Status == http.StatusTooManyRequests {
		limited = got.LimitedFor("RateLimit-Reset")
	}
	return message(got.Body), limited
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
	case failed.Answer.Status == http.StatusUnauthorized:
		public = publicRoot
	case failed.Answer.Status >= 300 && failed.Answer.Status < 500:
		public = publicRefused
	}
	return issuer.NotIssued(op, "", public, err)
}

// minting turns the failure of the request that mints into our error. GitLab refuses with 4xx before
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
		return issuer.NotIssued(opIssue, "", publicRoot, err)
	case tokenapi.StatusOf(err) >= 300 && tokenapi.StatusOf(err) < 500:
		return &cred.Error{Kind: cred.Invalid, Op: opIssue, Reason: "SOURCE_REFUSED", Public: publicRefused, Err: err}
	default:
		return lost(err)
	}
}

// lost says that a token may exist of which we know nothing but its name.
func lost(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: opIssue, Reason: "ANSWER_LOST", Public: publicLost, Err: err}
}
