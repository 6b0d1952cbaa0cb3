// Package static gives out secrets that stand: an API key in a file, in the environment or in Vault, for a
// service that has no way to mint short-lived ones. Nothing ends such a secret early, so it never
// reaches a caller: only targets that are spent through a proxy may use it.
package static

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
)

// maxSecret is the longest secret that is read, in bytes.
const maxSecret = 64 << 10

// Loader reads one value. It is called at each Issue, so that a changed value is picked up.
type Loader func(ctx context.Context) (cred.Secret, error)

// Parse returns the loader for a reference: "file:/path" or "env:NAME". It reads nothing yet. For secrets
// in Vault see ParseVault.
func Parse(reference string) (Loader, error) {
	scheme, rest, ok := strings.Cut(reference, ":")
	switch {
	case ok && rest != "" && scheme == "file":
		return File(rest), nil
	case ok && rest != "" && scheme == "env":
		return Env(rest), nil
	}
	// The reference itself is not quoted: it may be the secret, put there by mistake.
	return nil, &cred.Error{Kind: cred.Invalid, Op: "static.config", Public: "a static secret is named as file:/path, env:NAME or vault:ISSUER/PATH#FIELD, never written into the configuration"}
}

// File reads a file that nobody but its owner may use (mode 0600 or narrower). One line break at its
// end does not count.
func File(path string) Loader {
	return func(context.Context) (cred.Secret, error) {
		content, err := keyfile.Read(path)
		if err != nil {
			return cred.Secret{}, err
		}
		return checked(path, strings.TrimSuffix(strings.TrimSuffix(content.RevealString(), "\n"), "\r"))
	}
}

// Env reads a variable of the broker's environment.
func Env(name string) Loader {
	return func(context.Context) (cred.Secret, error) { return checked("$"+name, os.Getenv(name)) }
}

func checked(where, value string) (cred.Secret, error) {
	if value == "" {
		return cred.Secret{}, fmt.Errorf("static: %s is empty", where)
	}
	if len(value) > maxSecret {
		return cred.Secret{}, fmt.Errorf("static: %s is longer than %d bytes", where, maxSecret)
	}
	return cred.SecretString(value), nil
}

// Issuer gives out secrets by the path of the target's credential. It is an issuer.Issuer, safe for
// concurrent use.
type Issuer struct {
	secrets map[string]map[string]Loader
}

// New returns an issuer of some secrets: by path, then by field, e.g. "openai", "token".
func New(secrets map[string]map[string]Loader) *Issuer { return &Issuer{secrets: secrets} }

// Issue reads the secret's values anew. It refuses, with kind Invalid, a target that delivers to the
// caller. The lease ends when it was asked to; the secret itself does not, as the lease's note says.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	fields, ok := i.secrets[spec.Target.Credential.Path]
	switch {
	case spec.Target.Deliver != cred.DeliverProxy:
		return refuse("STATIC_NEEDS_PROXY", "a secret that nothing ends is never handed to a caller; deliver this target through a proxy")
	case !ok:
		return refuse("SOURCE_UNKNOWN", "the target names a static secret that its issuer does not have")
	case !time.Now().Before(spec.NotAfter):
		return refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	c := cred.Credential{Fields: map[string]cred.Secret{}}
	for name, load := range fields {
		value, err := load(ctx)
		if err != nil {
			return cred.Credential{}, cred.Lease{}, unreadable(err)
		}
		c.Fields[name] = value
	}
	if name := rename(c.Fields, spec.Target.Credential.Fields); name != "" {
		return refuse("FIELD_MISSING", fmt.Sprintf("the static secret has no field %q, which the target names", name))
	}
	if c.Type = spec.Target.Credential.Type; c.Type == "" {
		c.Type = typeOf(c.Fields)
	}
	return c, cred.Lease{NotAfter: spec.NotAfter, Note: "a static secret: nothing ends it but its replacement"}, nil
}

// Revoke refuses: a static secret ends when somebody replaces it.
func (i *Issuer) Revoke(context.Context, cred.Lease) error {
	_, _, err := refuse("NOT_REVOCABLE", "a static secret can't be revoked; replace it at its source")
	return err
}

func refuse(reason, public string) (cred.Credential, cred.Lease, error) {
	return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Invalid, Op: "static.issue", Reason: reason, Public: public}
}

func unreadable(err error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "static.issue", Reason: "SECRET_UNREADABLE",
		Public: "the broker can't read this static secret; its operator has to look at the file, the variable or the path in Vault that holds it",
		Err:    errors.Join(issuer.ErrNotIssued, err),
	}
}

// rename puts fields under the target's names for them. It returns a name that is not there, if any.
func rename(fields map[string]cred.Secret, renames map[string]string) (missing string) {
	moved := map[string]cred.Secret{}
	for ours, theirs := range renames {
		value, ok := fields[theirs]
		if !ok {
			return theirs
		}
		moved[ours] = value
	}
	for _, theirs := range renames {
		delete(fields, theirs)
	}
	for name, value := range moved {
		fields[name] = value
	}
	return ""
}

// typeOf tells a credential's type from the names of its fields.
func typeOf(fields map[string]cred.Secret) cred.CredentialType {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, ok := fields[name]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("username", "password"):
		return cred.UserPassword
	case has("access_key_id", "secret_access_key"):
		return cred.AWS
	case has("certificate", "private_key"):
		return cred.TLS
	case has("token"):
		return cred.Bearer
	}
	return cred.KV
}
