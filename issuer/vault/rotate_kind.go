package vault

import (
	"context"
	"errors"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// rootKind is what one engine calls a root, and where it keeps what there is to know of it. Paths are
// below the engine's mount, and "NAME" in them stands for the name at the end of the rotated path.
type rootKind struct {
	what   string   // for people
	config string   // its configuration, which is read
	needs  []string // what the configuration has to hold, with "." between levels
	names  string   // the configuration's field that differs for each root; empty: none
	answer string   // the field of a rotation's answer that names the new root; empty: none
	reset  string   // closes the connections that were made with the old root; empty: none
	trial  string   // what to read where the configuration of the rotation does not say; empty: nothing
	leases string   // below which the leases are that the root made; empty: the whole mount

	// accessKey: the root is an access key of AWS. There must be one alone, since a user has two at the
	// most, and AWS takes some seconds to know a new one everywhere.
	accessKey bool
	// adopted: the engine takes the new root into use by itself, a minute or so after it has made it.
	adopted bool
}

// rootKinds are the kinds by the form of the path and the engine
// (https://developer.hashicorp.com/vault/api-docs: databases, aws, ldap, azure, gcp and the auth methods
// of the same names).
var rootKinds = map[string]rootKind{
	"rotate-root/NAME database": {
		what: "the root user of a database connection", config: "config/NAME", needs: []string{"plugin_name", "connection_details.username"},
		reset: "reset/NAME", leases: "creds",
	},
	"rotate-role/NAME database": {
		what: "the user of a static role", config: "static-roles/NAME", needs: []string{"username", "db_name"},
		names: "last_vault_rotation", trial: "static-creds/NAME", leases: "creds",
	},
	"rotate-role/NAME ldap": {
		what: "the LDAP user of a static role", config: "static-role/NAME", needs: []string{"username"},
		names: "last_vault_rotation", trial: "static-cred/NAME",
	},
	"rotate-root ldap":        {what: "the user that binds to LDAP", config: "config", needs: []string{"binddn"}, names: "last_bind_password_rotation"},
	"config/rotate-root ldap": {what: "the user that binds to LDAP", config: "config", needs: []string{"binddn"}, names: "last_bind_password_rotation"},
	"config/rotate-root aws":  {what: "the access key of the AWS engine", config: "config/root", needs: []string{"access_key"}, names: "access_key", answer: "access_key", accessKey: true},
	"config/rotate-root auth aws": {
		what: "the access key of the AWS sign-in", config: "config/client", needs: []string{"access_key"},
		names: "access_key", answer: "access_key", accessKey: true,
	},
	"config/rotate-root gcp": {what: "the service account key of the Google Cloud engine", config: "config", answer: "private_key_id"},
	"rotate-root azure": {
		what: "the application password of Azure", config: "config", needs: []string{"client_id", "tenant_id"},
		names: "root_password_expiration_date", adopted: true,
	},
}

// rotatePath is a path that rotates a root, in its parts.
type rotatePath struct {
	mount string // with a slash at its end, e.g. "database/" or "auth/aws/"
	form  string // e.g. "rotate-root/NAME"
	name  string // what NAME stands for; empty where the form has none
}

// readRotatePath takes a path apart. An engine may be mounted anywhere, so the end of the path tells.
func readRotatePath(path string) (rotatePath, error) {
	bad := invalidConfig("the path of a root in Vault must be one that rotates it, such as database/rotate-root/orders, aws/config/rotate-root or ldap/rotate-role/ada", errors.New("vault: bad rotation path"))
	if checkPath(path) != nil {
		return rotatePath{}, bad
	}
	parts := strings.Split(path, "/")
	tail := func(n int) string { return parts[max(len(parts)-n, 0)] }
	join := func(cut int) string { return strings.Join(parts[:len(parts)-cut], "/") + "/" }
	switch {
	case len(parts) > 2 && (tail(2) == "rotate-root" || tail(2) == "rotate-role"):
		return rotatePath{join(2), tail(2) + "/NAME", tail(1)}, nil
	case len(parts) > 2 && tail(1) == "rotate-root" && tail(2) == "config":
		return rotatePath{join(2), "config/rotate-root", ""}, nil
	case len(parts) > 1 && tail(1) == "rotate-root":
		return rotatePath{join(1), "rotate-root", ""}, nil
	}
	return rotatePath{}, bad
}

// below returns a path of a kind as it is below the mount.
func (p rotatePath) below(path string) string {
	return p.mount + strings.ReplaceAll(path, "NAME", p.name)
}

// Covers implements issuer.Scoped: what is read below the mount, and of a static role its own path alone.
// Which connection a database's role belongs to is known to Vault only.
func (x *root) Covers(path string) bool {
	fixed, _, open := strings.Cut(path, "{")
	switch {
	case !strings.HasPrefix(fixed, x.at.mount):
		return open && strings.HasPrefix(x.at.mount, fixed)
	case x.at.form == "rotate-role/NAME" && !open:
		return strings.HasSuffix(path, "/"+x.at.name)
	}
	return true
}

// kind finds out what the root is: from the configuration, from Vault, or where Vault won't say, from
// the name of the mount.
func (x *root) kind(ctx context.Context) (rootKind, error) {
	engine := x.cfg.Engine
	if engine == "" {
		m, err := x.vault.mount(ctx, x.cfg.Path)
		if err != nil {
			return rootKind{}, err
		}
		engine = m.engine
	}
	if k, ok := x.at.kindOf(engine); ok {
		return k, nil
	}
	return rootKind{}, &cred.Error{
		Kind: cred.Invalid, Op: "vault.rotate", Reason: "ROOT_UNKNOWN",
		Public: "what is mounted in Vault at " + strings.TrimSuffix(x.at.mount, "/") + " has no root of this kind that daypass can rotate; correct the path, or say the engine", Err: errors.New("vault: no kind for engine " + engine),
	}
}

func (p rotatePath) kindOf(engine string) (rootKind, bool) {
	engine = strings.TrimPrefix(strings.TrimPrefix(engine, "vault-plugin-secrets-"), "vault-plugin-auth-")
	mount, auth := strings.CutPrefix(p.mount, "auth/")
	switch {
	case engine == "openldap" || engine == "ad":
		engine = "ldap"
	case engine == "" && p.form == "rotate-root/NAME":
		engine = "database"
	case engine == "":
		engine = strings.TrimSuffix(mount[strings.LastIndex(strings.TrimSuffix(mount, "/"), "/")+1:], "/")
	}
	if auth {
		if k, ok := rootKinds[p.form+" auth "+engine]; ok {
			return k, true
		}
		if engine == "gcp" {
			return rootKind{}, false
		}
	}
	k, ok := rootKinds[p.form+" "+engine]
	return k, ok
}
