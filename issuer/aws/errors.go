package aws

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicGone       = "AWS can't be reached; try again in a moment"
	publicLost       = "AWS did not answer, so it is not known whether a session was made; try again"
	publicOdd        = "AWS answered with something that is not the session that was asked for; the broker threw it away, and its operator has to look at the endpoint"
	publicSkewed     = "the broker's clock differs from AWS' by more than five minutes, so that nobody knows when the session ends; the broker threw it away, and its operator has to set the clock"
	publicBusy       = "AWS limits how often the broker may ask; try again in a moment"
	publicNoToken    = "the broker can't sign the ID token that it shows to AWS; its operator has to look at its signing keys"
	publicLength     = "the ID token is longer than the 20000 characters that AWS takes; the target needs fewer or shorter tags"
	publicClock      = "AWS takes the broker's ID token for expired, or for one from the future; the broker's operator has to set its clock"
	publicIdentity   = "AWS does not accept the broker's ID token; the broker's operator has to look at the identity provider in the role's account: its URL, its audience, and whether the broker signs with ES256"
	publicKeys       = "AWS can't fetch the broker's public keys; the broker's operator has to make sure that its URL answers on the internet, and whoever asked can try again"
	publicTrust      = "AWS does not let the broker take this role; the role's trust policy has to allow sts:AssumeRoleWithWebIdentity, sts:SetSourceIdentity and, with tags, sts:TagSession for the broker's subject and audience"
	publicRegion     = "AWS STS is switched off in this region for the role's account; the account's operator has to activate it, or the broker's has to use another region"
	publicPolicy     = "AWS does not understand the target's session policy; whoever wrote it has to mend it"
	publicPacked     = "the target's session policies and tags are together too large for AWS once it has packed them; use fewer or shorter ones"
	publicPolicyForm = `the target's parameter "policy" must be a policy of IAM: a JSON object with a Statement`
	publicNotAWS     = "what answered the broker is not AWS STS; the broker's operator has to look at the endpoint and at what stands before it"
	publicRefused    = "AWS refused the request; the target's role, session policy or tags are not what it allows"

	publicNotRevocable = "AWS STS credentials can't be revoked one by one: this one works until its own end; if it must end now, " +
		"attach a policy to its role that denies everything where aws:SourceIdentity is the grant's ID, or where aws:TokenIssueTime is earlier than now"
)

// callError is how one request failed: with a status, or without an answer. Its text holds nothing that
// was sent.
type callError struct {
	op         string
	status     int    // zero: no answer
	code       string // AWS' word, such as "AccessDenied"
	requestID  string // by which AWS' support finds it
	unsent     bool   // there was never a connection
	skewed     bool   // AWS' clock and ours differ by more than maxSkew
	retryAfter time.Duration
	err        error
}

// Error returns the private text.
func (e *callError) Error() string {
	return fmt.Sprintf("aws: %s: status %d %s, request %s: %v", e.op, e.status, e.code, e.requestID, e.err)
}

// Unwrap returns the cause.
func (e *callError) Unwrap() error { return e.err }

// The codes by which AWS asks for patience, with statuses 400, 429 and 503.
var busy = []string{
	"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
	"RequestLimitExceeded", "TooManyRequestsException", "SlowDown",
}

func (e *callError) busy() bool {
	return e.status == http.StatusTooManyRequests || slices.Contains(busy, e.code)
}

// passing reports whether AWS did nothing and may do it when it is asked again.
func (e *callError) passing() bool { return e.busy() || e.code == "IDPCommunicationError" }

// minting turns the failure of a request for a session of a life into our error.
func minting(life time.Duration, err error) error {
	e, ok := errors.AsType[*callError](err)
	switch {
	case !ok:
		return err // from our own side, before anything was sent
	case e.unsent:
		return issuer.NotIssued("aws.issue", "", publicGone, e)
	case e.busy():
		return retryLater("aws.issue", e)
	case e.status == 0, e.status >= 500:
		return lost(publicLost, e)
	case e.status < 400:
		return lost(publicOdd, e)
	}
	return refusedBy(life, e)
}

// refusedBy reads the codes of API_AssumeRoleWithWebIdentity and of
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html. What the broker's operator has
// to mend is Unavailable, what the target's has to is Invalid; nothing was made in either case.
func refusedBy(life time.Duration, e *callError) error {
	switch e.code {
	case "ExpiredTokenException", "ExpiredToken":
		return issuer.NotIssued("aws.issue", "CLOCK_SKEWED", publicClock, e)
	case "InvalidIdentityToken", "IDPRejectedClaim":
		if e.skewed {
			return issuer.NotIssued("aws.issue", "CLOCK_SKEWED", publicClock, e)
		}
		return issuer.NotIssued("aws.issue", "IDENTITY_REFUSED", publicIdentity, e)
	case "IDPCommunicationError":
		return issuer.NotIssued("aws.issue", "KEYS_UNREACHABLE", publicKeys, e)
	case "RegionDisabledException":
		return issuer.NotIssued("aws.issue", "REGION_DISABLED", publicRegion, e)
	case "", "InvalidAction":
		return issuer.NotIssued("aws.issue", "", publicNotAWS, e)
	case "AccessDenied", "AccessDeniedException":
		return invalid("SOURCE_REFUSED", publicTrust, e)
	case "MalformedPolicyDocument":
		return invalid("POLICY_MALFORMED", publicPolicy, e)
	case "PackedPolicyTooLarge":
		return invalid("POLICY_TOO_LARGE", publicPacked, e)
	case "ValidationError":
		// Every role allows an hour, so only more than that can be too long.
		if life > time.Hour {
			return invalid("DURATION_TOO_LONG", publicDuration(life), e)
		}
	}
	return invalid("SOURCE_REFUSED", publicRefused, e)
}

func publicDuration(life time.Duration) string {
	return fmt.Sprintf("AWS refused a session of %v, which is most likely longer than the role's maximum session duration: "+
		"raise that in IAM, shorten the rule's ttl, or set the issuer's max_duration", life)
}

func retryLater(op string, e *callError) *cred.Error {
	out := issuer.NotIssued(op, "", publicBusy, e)
	out.RetryAfter = e.retryAfter
	return out
}

// lost is an Unavailable that leaves open whether a session was made.
func lost(public string, err error) *cred.Error {
	return &cred.Error{Kind: cred.Unavailable, Op: "aws.issue", Public: public, Err: err}
}

func invalid(reason, public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "aws.issue", Reason: reason, Public: public, Err: err}
}

func refuse(reason, public string) error { return tokenapi.Refuse("aws.issue", reason, public) }
