package copilot

import (
	"errors"

	"github.com/daypass-io/daypass/cred"
)

// What people read.
const (
	publicGone     = "GitHub Copilot can't be reached; try again in a moment"
	publicBusy     = "GitHub limits how often the broker may ask for a Copilot session; try again later"
	publicOdd      = "GitHub answered with something that is no Copilot session that daypass knows; its endpoint may have changed, and the broker's operator has to look at it"
	publicSeat     = "GitHub does not accept the Copilot seat's sign-in any more; its owner has to sign in again"
	publicNoSeat   = "GitHub refuses a Copilot session to this seat; its owner has to look at the subscription"
	publicUnwanted = "GitHub refuses Copilot sessions that are made by a program; this seat can't be used through daypass"
	publicSeatFile = "the broker can't read the token of the Copilot seat; its operator has to look at it"
	publicClosed   = "the broker is shutting down; try again in a moment"
)

// unanswered is an Unavailable that leaves open whether a session was made.
func unanswered(err error) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "copilot.issue", Public: publicGone, Err: err}
}

func refuse(reason, public string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "copilot.issue", Reason: reason, Public: public}
}

func invalidConfig(public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "copilot.config", Public: public, Err: errors.New("copilot: " + private)}
}
