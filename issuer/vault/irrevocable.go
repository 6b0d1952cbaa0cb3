package vault

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// irrevocable returns the leases that Vault has given up on, by ID. After six failures to end a credential,
// some ten minutes, Vault tries no more and keeps the lease, with the source's error, until somebody forces
// its end (https://developer.hashicorp.com/vault/api-docs/system/leases). It is nil where the issuer's token
// may not ask, or Vault does not know the question (before 1.8).
func (i *Issuer) irrevocable(ctx context.Context) map[string]bool {
	answer, err := i.asBroker(ctx, request{method: "GET", path: "sys/leases", params: url.Values{"type": {"irrevocable"}}})
	if err != nil {
		return nil
	}
	leases, _ := answerData(answer)["leases"].([]any)
	given := map[string]bool{}
	for _, l := range leases {
		about, _ := l.(map[string]any)
		id, _ := about["lease_id"].(string)
		given[id] = true
	}
	return given
}

// errIrrevocable says that a credential's source keeps it although it should have ended. Its kind is
// Invalid, as trying again changes nothing: the lease becomes unknown, and its note is this text. The
// source's error may hold what nobody is to read here, such as a connection's password.
func errIrrevocable(what string, err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "vault.revoke", Reason: issuer.ReasonIrrevocable,
		Public: "Vault has given up on ending " + what + ", which may work until somebody ends it at its source by hand; 'vault read sys/leases type=irrevocable' tells Vault's error", Err: err,
	}
}

// givenUp returns the error for leases that are past their end, if Vault has given up on all of them.
// What says whose they are.
func (i *Issuer) givenUp(ctx context.Context, what string, leases []string) error {
	given := i.irrevocable(ctx)
	for _, l := range leases {
		if !given[l] {
			return nil
		}
	}
	return errIrrevocable(what, fmt.Errorf("vault: irrevocable: %s", strings.Join(leases, ", ")))
}
