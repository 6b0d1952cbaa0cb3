package azure

import (
	"errors"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// What people read.
const (
	publicGone    = "Microsoft Entra can't be reached; try again in a moment"
	publicLost    = "Microsoft Entra did not answer, so it is not known whether a token was made; one that was made ends by itself, and nobody has it; try again"
	publicOdd     = "Microsoft Entra answered with something that is no token, so it is not known whether one was made; the broker's operator has to look at the authority"
	publicBusy    = "Microsoft Entra limits how often the broker may ask; try again in a moment"
	publicSource  = "the broker can't sign the ID token that Microsoft Entra wants; its operator has to look at its signing keys"
	publicClient  = "Microsoft Entra does not accept the broker as this application; the broker's operator has to look at the tenant, the client ID and the application's federated credential"
	publicRefused = "Microsoft Entra refused to make this token; the target's scope is not what it allows"
)

// trouble is what one of Entra's error numbers means.
type trouble struct {
	reason, public string
	ours           bool // the broker's operator has to look at it; else it is about what was asked
}

// Texts of troubles that several numbers stand for.
var (
	noMatch   = trouble{"FEDERATION_MISMATCH", "no federated credential of the application matches the broker's ID token: its issuer, subject and audience must be the same to the letter; the broker's operator has to compare them", true}
	noIssuer  = trouble{"FEDERATION_ISSUER", "no federated credential of the application has the broker as its issuer: it must be the broker's URL to the letter, without a slash that the broker's does not have; the broker's operator has to compare them", true}
	noSubject = trouble{"FEDERATION_SUBJECT", "no federated credential of the application has the broker's subject: it must be the same to the letter; the broker's operator has to compare them", true}
	noApp     = trouble{"APPLICATION_UNKNOWN", "the application is not in this tenant, or the tenant does not exist; the broker's operator has to look at the tenant and the client ID", true}
	noKeys    = trouble{"ID_TOKEN_UNVERIFIED", "Microsoft Entra can't verify the broker's ID token: it must be able to read the broker's keys at the issuer's URL; the broker's operator has to look at it", true}
	noScope   = trouble{"SCOPE_REFUSED", "the scope must be one resource that this tenant knows, followed by /.default, such as https://management.azure.com/.default", false}
)

// troubles are Entra's numbers, AADSTS...:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes. Microsoft may change them,
// so a number that is not here is told by the error's name alone.
var troubles = map[int]trouble{
	70021:   noMatch,
	700211:  noIssuer,
	700212:  {"FEDERATION_AUDIENCE", "no federated credential of the application has the audience of the broker's ID token; the broker's operator has to compare them", true},
	700213:  noSubject,
	7002137: noSubject,
	7002138: {"FEDERATION_SUBJECT", "a federated credential of the application has the broker's subject in other upper and lower case letters: it must be the same to the letter; the broker's operator has to mend it", true},
	700024:  {"ID_TOKEN_TIME", "to Microsoft Entra the broker's ID token is not valid now; the broker's operator has to look at the broker's clock", true},
	700027:  noKeys,
	50013:   noKeys,
	700016:  noApp,
	90002:   noApp,
	900023:  noApp,
	7000229: {"APPLICATION_UNKNOWN", "the application has no service principal in this tenant; the broker's operator has to make one", true},
	7000112: {"APPLICATION_DISABLED", "the application is disabled in this tenant; the broker's operator has to look at it", true},
	70011:   noScope,
	1002012: noScope,
	500011:  noScope,
	501051:  {"ROLE_MISSING", "the application has no role at this resource, which admits only those that have one; the resource's owner has to assign it", false},
	53003:   {"CONDITIONAL_ACCESS", "a conditional access policy of the tenant blocks this token; the tenant's administrator has to look at it", false},
}

// failed turns the failure of the request into our error.
func failed(err error) error {
	e, ok := errors.AsType[*tokenapi.Error](err)
	switch {
	case !ok:
		return issuer.NotIssued(opIssue, "", publicGone, err)
	case e.MayHaveMade():
		return &cred.Error{Kind: cred.Unavailable, Op: opIssue, Reason: "ANSWER_LOST", Public: publicOfOpen(e), Err: e}
	case e.Unsent:
		return issuer.NotIssued(opIssue, "", publicGone, err)
	case e.Busy():
		return issuer.Limited(opIssue, publicBusy, e.RetryAfter, e)
	}
	t := troubleOf(e)
	if t.ours {
		return issuer.NotIssued(opIssue, t.reason, t.public, e)
	}
	return &cred.Error{Kind: cred.Invalid, Op: opIssue, Reason: t.reason, Public: t.public, Err: e}
}

func publicOfOpen(e *tokenapi.Error) string {
	if e.Silent() {
		return publicLost
	}
	return publicOdd
}

// troubleOf reads an error by its numbers, else by its name: RFC 6749, section 5.2.
func troubleOf(e *tokenapi.Error) trouble {
	for _, n := range e.Numbers {
		if t, known := troubles[n]; known {
			return t
		}
	}
	if strings.HasSuffix(e.Code, "_client") || e.Code == "invalid_grant" || e.Code == "" && e.Status == 401 {
		return trouble{"CLIENT_REFUSED", publicClient, true}
	}
	return trouble{"SOURCE_REFUSED", publicRefused, false}
}

func refuse(reason, public string) error { return tokenapi.Refuse(opIssue, reason, public) }
