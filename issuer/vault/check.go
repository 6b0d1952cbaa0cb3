package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
//
// and of the default policy lookup-self, renew-self and capabilities-self. The two rights to look
// leases up serve the recovery after a crash, which has to see that what was made is gone.
func (i *Issuer) Check(ctx context.Context) error {
	s, err := i.broker.current(ctx)
	if err != nil {
		return err
	}
	problems := i.tokenProblems(s.about)
	missing, err := i.missingRights(ctx)
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
		add("the broker may not read auth/token/lookup-self, so its token can't be checked: give %s the default policy", role)
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

// right is what the issuer's token must be able to do at a path: all of these, or one of either.
type right struct {
	path   string
	all    []string
	either []string
}

// ownRights are those that every lease needs.
func (i *Issuer) ownRights() []right {
	return []right{
		{path: i.createPath(), either: []string{"update", "create"}},
		{path: "auth/token/revoke-accessor", either: []string{"update"}},
		{path: "sys/leases/revoke", either: []string{"update"}},
		{path: "sys/leases/lookup", either: []string{"update"}},
	}
}

// pathRights are those to mint from a path and, but for a key-value store, to see its leases.
func (i *Issuer) pathRights(ctx context.Context, path string) ([]right, error) {
	m, err := i.mount(ctx, path)
	if err != nil {
		return nil, err
	}
	switch m.engine {
	case "kv2":
		return []right{{path: kv2Path(m.path, path), all: []string{"read"}}}, nil
	case "kv1":
		return []right{{path: path, all: []string{"read"}}}, nil
	}
	return []right{
		{path: path, either: []string{"read", "update", "create"}},
		{path: "sys/leases/lookup/" + path + "/", all: []string{"list", "sudo"}},
	}, nil
}

// missingRights asks Vault what the token may do (sys/capabilities-self).
func (i *Issuer) missingRights(ctx context.Context) ([]string, error) {
	needs := i.ownRights()
	for _, path := range i.cfg.Paths {
		more, err := i.pathRights(ctx, path)
		if err != nil {
			return nil, err
		}
		needs = append(needs, more...)
	}
	paths := make([]string, len(needs))
	for n, need := range needs {
		paths[n] = need.path
	}
	answer, err := i.asBroker(ctx, request{method: "POST", path: "sys/capabilities-self", body: map[string]any{"paths": paths}})
	if err != nil {
		return nil, harmless("vault.check", err)
	}
	var missing []string
	for _, need := range needs {
		if lack := need.lack(answerData(answer)[need.path]); lack != "" {
			missing = append(missing, fmt.Sprintf("the broker's Vault policy lacks %s on %q", lack, need.path))
		}
	}
	return missing, nil
}

// lack returns what of a right is not among the capabilities that Vault named; empty for nothing.
func (r right) lack(named any) string {
	list, _ := named.([]any)
	has, _ := allStrings(list)
	if slices.Contains(has, "root") {
		return ""
	}
	var lacking []string
	for _, c := range r.all {
		if !slices.Contains(has, c) {
			lacking = append(lacking, c)
		}
	}
	if len(r.either) > 0 && !slices.ContainsFunc(r.either, func(c string) bool { return slices.Contains(has, c) }) {
		lacking = append(lacking, r.either[0])
	}
	return strings.Join(lacking, " and ")
}
