package identity

import (
	"fmt"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// op is what the errors of this package name as the attempt.
const op = "identity.verify"

// refuse makes the error of a token that is not accepted. The sentence is for the caller and must
// not hold the token.
func refuse(reason, claim, format string, args ...any) *cred.Error {
	return &cred.Error{Kind: cred.Unauthenticated, Op: op, Reason: reason, Claim: claim, Public: fmt.Sprintf(format, args...)}
}

// unavailable makes the error of a token that can't be judged.
func unavailable(provider string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: op, Reason: "ISSUER_UNAVAILABLE", Err: cause,
		Public: fmt.Sprintf("the keys of identity provider %q can't be fetched now, so the ID token can't be verified; try again later", provider),
	}
}

// shown quotes a value that a caller sent, cut to what a sentence can hold.
func shown(s string) string {
	const most = 128
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + " (cut)"
	}
	return strconv.QuoteToASCII(s)
}

// instant writes a time as sentences show it.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }
