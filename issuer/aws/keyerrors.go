package aws

import (
	"errors"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// What people read of access keys.
const (
	publicKeysLost   = "AWS IAM did not answer, so it is not known whether it did what it was asked; try again"
	publicKeysOdd    = "AWS IAM answered with something that is no answer to what it was asked; the broker's operator has to look at the endpoint"
	publicNoKey      = "the broker has no credentials for AWS IAM; its operator has to look at where they come from"
	publicKeyUnknown = "AWS IAM does not know the key that the broker signs with, or not yet: a new one takes some seconds; try again, or have the broker's operator look at it"
	publicKeyClock   = "AWS IAM takes the broker's request for too old, or for one from the future; the broker's operator has to set its clock or renew the credentials"
	publicKeysDenied = "AWS IAM does not let the broker look after these access keys; its credentials need iam:ListAccessKeys and iam:DeleteAccessKey for the user and, where no user is named, iam:GetUser"
	publicKeysWait   = "AWS IAM is still changing this user; try again in a moment"
	publicNoUser     = "AWS IAM knows no such user; the broker's operator has to look at the user's name"
	publicRoot       = "these are the credentials of the account's root user, whose keys the broker does not touch; use those of a user of IAM"
	publicOwnKey     = "this key signs the broker's own requests to AWS IAM, so the broker does not delete it; put another one into use first"
	publicKeysNo     = "AWS IAM refused the request; the broker's operator has to look at the user's name and at the kind of credentials"
)

// keysFailed turns the failure of a request to IAM into our error
// (https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html).
func keysFailed(err error) error {
	e, ok := errors.AsType[*callError](err)
	switch {
	case !ok:
		return err // from our own side, before anything was sent
	case e.unsent:
		return issuer.NotIssued("aws.keys", "", publicGone, e)
	case e.busy():
		return retryLater("aws.keys", e)
	case e.status == 0, e.status >= 500:
		return &cred.Error{Kind: cred.Unavailable, Op: "aws.keys", Public: publicKeysLost, Err: e}
	case e.status < 400:
		return keysOdd(e)
	}
	return keysRefused(e)
}

func keysRefused(e *callError) error {
	switch e.code {
	case "NoSuchEntity":
		return &cred.Error{Kind: cred.NotFound, Op: "aws.keys", Public: publicNoUser, Err: e}
	case "InvalidClientTokenId":
		return issuer.NotIssued("aws.keys", "KEY_UNKNOWN", publicKeyUnknown, e)
	case "RequestExpired", "ExpiredToken", "RequestTimeTooSkewed":
		return issuer.NotIssued("aws.keys", "CLOCK_SKEWED", publicKeyClock, e)
	case "SignatureDoesNotMatch":
		if e.skewed {
			return issuer.NotIssued("aws.keys", "CLOCK_SKEWED", publicKeyClock, e)
		}
		return issuer.NotIssued("aws.keys", "KEY_UNKNOWN", publicKeyUnknown, e)
	case "EntityTemporarilyUnmodifiable":
		return issuer.NotIssued("aws.keys", "", publicKeysWait, e)
	case "AccessDenied", "AccessDeniedException":
		return &cred.Error{Kind: cred.Denied, Op: "aws.keys", Reason: "SOURCE_REFUSED", Public: publicKeysDenied, Err: e}
	}
	return &cred.Error{Kind: cred.Invalid, Op: "aws.keys", Reason: "SOURCE_REFUSED", Public: publicKeysNo, Err: e}
}

// keysOdd is of an answer that can't be read: what was asked may have been done.
func keysOdd(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "aws.keys", Public: publicKeysOdd, Err: err}
}
