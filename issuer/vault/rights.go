package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// right is what the issuer's token must be able to do at a path: all of these, or one of either.
type right struct {
	path    string
	all     []string
	either  []string
	without string // what the lack of it means, for people
}

// ownRights are those that every lease needs.
func (i *Issuer) ownRights() []right {
	return []right{
		{path: i.createPath(), either: []string{"update", "create"}, without: "nothing can be issued"},
		{path: "auth/token/revoke-accessor", either: []string{"update"}, without: "nothing can be revoked"},
		{path: "sys/leases/revoke", either: []string{"update"}, without: "revocation is not confirmed"},
		{path: "sys/leases/lookup", either: []string{"update"}, without: "what a crash left is not seen to end"},
		{path: "auth/token/renew-self", either: []string{"update"}, without: "the broker's token ends with its period, and every lease with it"},
	}
}

// featureRights are those of what is configured beside the paths, and of what paths with leases need.
func (i *Issuer) featureRights(at server, leases bool) (all []right) {
	if leases {
		all = append(all, right{path: "sys/leases/renew", either: []string{"update"}, without: "credentials end with their role's default_ttl, even if the grant is longer"})
	}
	if leases && at.listsIrrevocable() {
		all = append(all, right{path: "sys/leases", all: []string{"read", "sudo"}, without: "a lease that Vault has given up on stays in revocation until its end"})
	}
	if i.cfg.AuditDevice != "" {
		all = append(all, right{path: "sys/audit-hash/" + i.cfg.AuditDevice, either: []string{"update", "create"}, without: "leases do not say how Vault's audit log names their secret"})
	}
	for _, path := range i.signingPaths() {
		all = append(all, right{path: path, either: []string{"update", "create"}, without: "nothing can be signed with that key"})
	}
	return all
}

func (i *Issuer) signingPaths() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(i.signing)))
}

// pathRights are those to mint from a path and, but for a key-value store, to see its leases.
func pathRights(m mount, path string) []right {
	const without = "nothing can be issued from it"
	switch m.engine {
	case "kv2":
		return []right{{path: kv2Path(m.path, path), all: []string{"read"}, without: without}}
	case "kv1":
		return []right{{path: path, all: []string{"read"}, without: without}}
	}
	return []right{
		{path: path, either: []string{"read", "update", "create"}, without: without},
		{path: "sys/leases/lookup/" + path + "/", all: []string{"list", "sudo"}, without: "its leases can't be listed, nor seen to end after a crash"},
	}
}

// hasLeases reports whether an engine's credentials have leases that can be renewed. One that is not
// known may.
func hasLeases(engine string) bool {
	return !slices.Contains([]string{"kv2", "kv1", "pki", "ssh"}, engine)
}

// missingRights tells which rights the issuer lacks for what is configured.
func (i *Issuer) missingRights(ctx context.Context, at server) ([]string, error) {
	needs, leases := i.ownRights(), false
	for _, path := range *i.paths.Load() {
		m, err := i.mount(ctx, path)
		if err != nil {
			return nil, err
		}
		needs = append(needs, pathRights(m, path)...)
		leases = leases || hasLeases(m.engine)
	}
	return i.lacking(ctx, append(needs, i.featureRights(at, leases)...))
}

// lacking asks Vault which of some rights the issuer's token lacks (sys/capabilities-self), and tells what
// that means.
func (i *Issuer) lacking(ctx context.Context, needs []right) ([]string, error) {
	paths := make([]string, len(needs))
	for n, need := range needs {
		paths[n] = need.path
	}
	answer, err := i.asBroker(ctx, request{method: "POST", path: "sys/capabilities-self", body: map[string]any{"paths": paths}})
	if err != nil {
		return nil, asking("vault.check", "to tell what the broker may do", err)
	}
	var missing []string
	for _, need := range needs {
		if lack := need.lack(answerData(answer)[need.path]); lack != "" {
			missing = append(missing, fmt.Sprintf("the broker's Vault policy lacks %s on %q: without it %s", lack, need.path, need.without))
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
