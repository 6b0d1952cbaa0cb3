package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// Check signs in and tells every reason why this issuer would not work well, as one error of kind
// Invalid with a sentence for each; kind Unavailable where Vault does not answer.
//
// The issuer's token has to be a service token without a limit of uses that lives as long as it is
// renewed, or TokenRole has to be set. It needs these rights:
//
//	path "auth/token/create"           { capabilities = ["update"] }   # or auth/token/create/ROLE
//	path "auth/token/revoke-accessor"  { capabilities = ["update"] }
//	path "sys/leases/revoke"           { capabilities = ["update"] }
//	path "sys/leases/lookup"           { capabilities = ["update"] }
//	path "sys/leases/lookup/PATH/"     { capabilities = ["list", "sudo"] }
//	path "PATH"                        { capabilities = ["read"] }     # or update, with method write
//	path "auth/token/lookup-self"      { capabilities = ["read"] }
//	path "auth/token/renew-self"       { capabilities = ["update"] }
//	path "sys/capabilities-self"       { capabilities = ["update"] }
//
// The last three are in Vault's default policy, too. The two rights to look leases up serve the recovery
// after a crash, which has to see that what was made is gone. These are asked for where they serve
// something:
//
//	path "sys/leases/renew"            { capabilities = ["update"] }         # paths with leases
//	path "sys/leases"                  { capabilities = ["read", "sudo"] }   # the same, Vault 1.8 and later
//	path "sys/audit-hash/DEVICE"       { capabilities = ["update"] }         # Config.AuditDevice
//	path "MOUNT/sign/KEY/sha2-256"     { capabilities = ["update"] }         # each TransitSigner
func (i *Issuer) Check(ctx context.Context) error {
	s, err := i.broker.current(ctx)
	if err != nil {
		return err
	}
	at := i.server(ctx)
	problems := i.tokenProblems(s.about)
	if at.community && i.cfg.Namespace != "" {
		problems = append(problems, "a namespace is configured, but this Vault is not Enterprise and has none: it answers as if none were given")
	}
	missing, err := i.missingRights(ctx, at)
	if err != nil {
		return err
	}
	problems = append(problems, missing...)
	if len(problems) == 0 {
		return nil
	}
	return &cred.Error{Kind: cred.Invalid, Op: "vault.check", Public: strings.Join(problems, "; "), Err: errors.New("vault: the issuer's own token is not fit")}
}

func (i *Issuer) tokenProblems(about tokenInfo) (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	role := i.broker.signIn.setting()
	switch {
	case about.kind == "":
		add("the broker may not read auth/token/lookup-self, so its token can't be checked: give the policy of %s read on it", role)
	case about.kind == "batch":
		add("%s gives batch tokens, which can't have child tokens: set token_type=service", role)
	}
	if about.numUses != 0 {
		add("%s limits how often its tokens may be used, and such tokens can't have child tokens: set token_num_uses=0", role)
	}
	if i.cfg.TokenRole != "" || about.kind == "" || about.root {
		return problems
	}
	if about.period == 0 {
		add("%s gives tokens that end, and every lease with them: set token_period, for example to 24h", role)
	}
	if about.explicitMaxTTL != 0 {
		add("%s gives tokens with a maximum life, and every lease ends with them: set token_explicit_max_ttl=0", role)
	}
	return problems
}
