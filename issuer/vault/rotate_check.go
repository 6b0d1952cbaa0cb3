package vault

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// findings collects what was looked at.
type findings []cred.Finding

func (f *findings) add(name string, ok bool, format string, args ...any) {
	*f = append(*f, cred.Finding{Name: name, OK: ok, Text: fmt.Sprintf(format, args...)})
}

// leave tells what could not be looked at.
func (f *findings) leave(name, format string, args ...any) {
	*f = append(*f, cred.Finding{Name: name, OK: true, Open: true, Text: fmt.Sprintf(format, args...)})
}

func (f *findings) good() bool {
	return !slices.ContainsFunc(*f, func(one cred.Finding) bool { return !one.OK })
}

// tell adds a finding for something that must succeed. An error of kind Unavailable is returned, since
// nothing was found.
func (f *findings) tell(name, good string, err error) error {
	switch {
	case cred.KindOf(err) == cred.Unavailable:
		return err
	case err != nil:
		f.add(name, false, "%s", cred.PublicText(err))
	default:
		f.add(name, true, "%s", good)
	}
	return nil
}

// Check looks at Vault's health, the broker's rights, the root's configuration, who else uses it and
// how many leases live, and mints a credential under the current root, which it revokes at once. The
// Vault policy needs, for the root's own paths:
//
//	path "MOUNT/rotate-root/NAME" { capabilities = ["update"] }
//	path "MOUNT/config/NAME"      { capabilities = ["read"] }
//	path "MOUNT/reset/NAME"       { capabilities = ["update"] }   # databases
//
// beside those of the path that is minted from (Issuer.Check).
func (x *root) Check(ctx context.Context, r issuer.Rotation) ([]cred.Finding, error) {
	k, err := x.kind(ctx)
	if err != nil {
		return nil, err
	}
	var found findings
	for _, look := range []func(context.Context, rootKind, *findings) error{
		x.lookAtHealth, x.lookAtRights, x.lookAtConfiguration, x.lookAtKeys, x.lookAtOthers, x.lookAtLeases,
	} {
		if err := look(ctx, k, &found); err != nil {
			return nil, err
		}
	}
	if !found.good() {
		found.add("fresh credential", false, "not tried, because of what else was found")
		return found, nil
	}
	err = x.vault.trial(ctx, x.verify(k), r.ID) // without a reset, which would end what others have under way there
	if err := found.tell("fresh credential", x.proof(k), err); err != nil {
		return nil, err
	}
	return found, nil
}

// proof says what the trial has shown.
func (x *root) proof(k rootKind) string {
	v := x.verify(k)
	switch {
	case v.Path == "":
		return "the root in use works where it was tried"
	case v.Probe != nil:
		return "what was read from " + v.Path + " works where it was tried"
	case strings.HasPrefix(x.at.form, "rotate-role/"):
		return v.Path + " can be read; the password was not tried, as no probe is configured"
	}
	return "a credential was minted from " + v.Path + " and revoked"
}

// lookAtRights asks what the broker may do at every path that the rotation needs.
func (x *root) lookAtRights(ctx context.Context, k rootKind, found *findings) error {
	needs := []right{
		{path: x.cfg.Path, either: []string{"update", "create"}, without: "nothing is rotated"},
		{path: x.at.below(k.config), all: []string{"read"}, without: "nobody can look at the configuration before"},
	}
	if k.reset != "" {
		needs = append(needs, right{path: x.at.below(k.reset), either: []string{"update", "create"}, without: "a lost answer stays in doubt"})
	}
	switch {
	case x.cfg.Verify.Path != "":
		m, err := x.vault.mount(ctx, x.cfg.Verify.Path)
		if err != nil {
			return err
		}
		needs = append(append(needs, x.vault.ownRights()...), pathRights(m, x.cfg.Verify.Path)...)
	case k.trial != "":
		needs = append(append(needs, x.vault.ownRights()...), right{path: x.at.below(k.trial), all: []string{"read"}, without: "the new root is not tried"})
	}
	return x.vault.tellRights(ctx, needs, found)
}

func (i *Issuer) tellRights(ctx context.Context, needs []right, found *findings) error {
	missing, err := i.lacking(ctx, needs)
	if err != nil {
		return found.tell("rights", "", err)
	}
	if len(missing) > 0 {
		found.add("rights", false, "%s", strings.Join(missing, "; "))
		return nil
	}
	found.add("rights", true, "the broker's Vault policy allows all that the rotation needs")
	return nil
}

// noRootRotation are the database plugins whose root user Vault can't rotate
// (https://developer.hashicorp.com/vault/docs/secrets/databases, database capabilities).
var noRootRotation = []string{"mongodbatlas-database-plugin", "redis-elasticache-database-plugin"}

func (x *root) lookAtConfiguration(ctx context.Context, k rootKind, found *findings) error {
	about, err := x.settings(ctx, k)
	if err != nil {
		return found.tell("configuration", "", err)
	}
	var lacks []string
	for _, name := range k.needs {
		if value, _ := inside(about, name).(string); value == "" {
			lacks = append(lacks, name[strings.LastIndex(name, ".")+1:])
		}
	}
	plugin, _ := about["plugin_name"].(string)
	url, _ := inside(about, "connection_details.connection_url").(string)
	switch {
	case len(lacks) > 0:
		found.add("configuration", false, "%s has no %s in its configuration, so Vault can't rotate it", k.what, strings.Join(lacks, ", "))
	case slices.Contains(noRootRotation, plugin):
		found.add("configuration", false, "Vault's plugin %s can't rotate its root user", plugin)
	case writtenOut(url):
		found.add("configuration", false, "the connection's URL has the password written out, which would stay the old one: put {{username}} and {{password}} in their places")
	default:
		found.add("configuration", true, "%s is configured completely", k.what)
	}
	return nil
}

// userInfo is a user and a password in a URL, as in a connection's.
var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// writtenOut reports whether a connection's URL holds a password itself; Vault shows it as "xxxxx".
func writtenOut(url string) bool {
	user := userInfo.FindString(url)
	return strings.Contains(user, ":") && strings.Count(user, ":") > 1 && !strings.Contains(user, "{{password}}") && !strings.Contains(user, "%7B%7Bpassword%7D%7D")
}

// inside finds a value by its path, with "." between levels.
func inside(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}
