package vault

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// maxVaultError bounds what is passed on of one of Vault's own errors, in bytes.
const maxVaultError = 300

// irrevocable returns the leases that Vault has given up on, by ID, each with Vault's own error. After
// six failures to end a credential, some ten minutes, Vault tries no more and keeps the lease until
// somebody forces its end (https://developer.hashicorp.com/vault/api-docs/system/leases). It is nil
// where the issuer's token may not ask, or Vault does not know the question (before 1.8).
func (i *Issuer) irrevocable(ctx context.Context) map[string]string {
	answer, err := i.asBroker(ctx, request{method: "GET", path: "sys/leases", params: url.Values{"type": {"irrevocable"}}})
	if err != nil {
		return nil
	}
	leases, _ := answerData(answer)["leases"].([]any)
	given := map[string]string{}
	for _, l := range leases {
		about, _ := l.(map[string]any)
		id, _ := about["lease_id"].(string)
		text, _ := about["error"].(string)
		given[id] = shownError(text)
	}
	return given
}

// errIrrevocable says that a credential's source keeps it although it should have ended. Its kind is
// Invalid, as trying again changes nothing: the lease becomes unknown, and its note is this text.
func errIrrevocable(what, why string, err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "vault.revoke", Reason: issuer.ReasonIrrevocable,
		Public: "Vault has given up on ending " + what + ", which may work until somebody ends it at its source by hand; Vault's error: " + why, Err: err,
	}
}

// userInfo is a user and a password in a URL, as in a connection's.
var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// shownError makes one of Vault's errors fit for a note: one line, bounded, without what a connection's
// URL holds.
func shownError(text string) string {
	text = userInfo.ReplaceAllString(strings.ToValidUTF8(text, "?"), "://…@")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if len(text) > maxVaultError {
		text = strings.ToValidUTF8(text[:maxVaultError], "") + "…"
	}
	return text
}

// givenUp returns the error for leases that are past their end, if Vault has given up on all of them.
// What says whose they are.
func (i *Issuer) givenUp(ctx context.Context, what string, leases []string) error {
	given := i.irrevocable(ctx)
	for _, l := range leases {
		if _, up := given[l]; !up {
			return nil
		}
	}
	return errIrrevocable(what, given[leases[0]], fmt.Errorf("vault: irrevocable: %s", strings.Join(leases, ", ")))
}
