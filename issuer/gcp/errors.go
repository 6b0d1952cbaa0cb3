package gcp

import (
	"errors"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicGone      = "Google Cloud can't be reached; try again in a moment"
	publicLost      = "Google Cloud did not answer, so it is not known whether a token was made; one that was made ends by itself, and nobody has it; try again"
	publicOdd       = "Google Cloud answered with something that is no token that daypass knows; the broker's operator has to look at it"
	publicBusy      = "Google Cloud limits how often the broker may ask; try again in a moment"
	publicSource    = "the broker can't sign the ID token that Google Cloud wants; its operator has to look at its signing keys"
	publicSubject   = "Google Cloud does not accept the broker's ID token: its issuer or audience differs from what the workload identity provider is set up for, Google can't read the broker's keys, or a clock is wrong; the broker's operator has to look at it"
	publicCondition = "the attribute condition of the workload identity provider refuses the broker's ID token; the broker's operator has to look at the condition"
	publicProvider  = "the workload identity provider that the broker is set up with does not exist, is disabled or was deleted; the broker's operator has to look at it"
	publicRefused   = "Google Cloud refused to make this token; the target's scopes or its life are not what it allows"
	publicAccount   = "Google Cloud does not let the broker act as this target's service account: there is no such account, the broker's identity lacks roles/iam.workloadIdentityUser (or a delegate roles/iam.serviceAccountTokenCreator) on it, or the IAM Service Account Credentials API is not enabled; the target's owner has to look at it"
	publicBoundary  = `the target's boundary must be a Credential Access Boundary such as {"accessBoundaryRules":[{"availableResource":"//storage.googleapis.com/projects/_/buckets/NAME","availablePermissions":["inRole:roles/storage.objectViewer"]}]}, with 1 to 10 rules and of 2048 bytes or less`
	publicBounded   = "Google Cloud refused to narrow the token to the target's boundary; the target's owner has to look at it"
)

// step is which of the requests failed.
type step int

const (
	federation step = iota
	impersonation
	downscoping
)

// again says when a request is sent again: the last one only where no token can be in a lost answer.
func again(last bool) func(*tokenapi.Error) bool {
	if last {
		return tokenapi.Answered
	}
	return tokenapi.Passing
}

// failed turns the failure of a step into our error. What an earlier step made is no credential of the
// lease, so only the last one leaves open whether there is one.
func failed(err error, last bool, at step) error {
	e, ok := errors.AsType[*tokenapi.Error](err)
	switch {
	case !ok:
		return issuer.NotIssued(opIssue, "", publicGone, err)
	case e.MayHaveMade() && last:
		return &cred.Error{Kind: cred.Unavailable, Op: opIssue, Reason: "ANSWER_LOST", Public: publicOfOpen(e, publicLost), Err: e}
	case e.Busy():
		return issuer.Limited(opIssue, publicBusy, e.RetryAfter, e)
	case e.Unsent, e.Open():
		return issuer.NotIssued(opIssue, "", publicOfOpen(e, publicGone), e)
	}
	switch at {
	case impersonation:
		return impersonationRefused(e)
	case downscoping:
		return refused("BOUNDARY_REFUSED", publicBounded, e)
	default:
		return federationRefused(e)
	}
}

func publicOfOpen(e *tokenapi.Error, silent string) string {
	if e.Silent() {
		return silent
	}
	return publicOdd
}

// federationRefused reads the codes of Google's Security Token Service.
func federationRefused(e *tokenapi.Error) error {
	switch e.Code {
	case "invalid_grant":
		return issuer.NotIssued(opIssue, "ID_TOKEN_REFUSED", publicSubject, e)
	case "unauthorized_client":
		return issuer.NotIssued(opIssue, "ATTRIBUTE_CONDITION", publicCondition, e)
	case "invalid_target":
		return issuer.NotIssued(opIssue, "PROVIDER_UNKNOWN", publicProvider, e)
	}
	return refused("SOURCE_REFUSED", publicRefused, e)
}

// impersonationRefused reads the statuses of https://cloud.google.com/apis/design/errors. Google says
// 403 for an account that it may not tell of, and 404 for one that was deleted.
func impersonationRefused(e *tokenapi.Error) error {
	switch e.Status {
	case 401:
		return issuer.NotIssued(opIssue, "ID_TOKEN_REFUSED", publicSubject, e)
	case 403, 404:
		return refused("IMPERSONATION_REFUSED", publicAccount, e)
	}
	return refused("SOURCE_REFUSED", publicRefused, e)
}

func refused(reason, public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: opIssue, Reason: reason, Public: public, Err: err}
}

func refuse(reason, public string) error { return tokenapi.Refuse(opIssue, reason, public) }
