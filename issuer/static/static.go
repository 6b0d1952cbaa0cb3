// Package static issues secrets that exist already: an upstream's API key in a file or in the
// environment. They never expire and can't be revoked, so a proxy alone may hold them, and the lease
// says so.
package static

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
)

// Source reads one secret. It is called for each lease, so that a secret which was exchanged at its
// source is picked up without a restart.
type Source func() (cred.Secret, error)

// Config says what the issuer gives out.
type Config struct {
	Type   cred.CredentialType // empty: bearer where the one field is "token", user_password where there are those two, else kv
	Fields map[string]Source   // at least one
}

// Issuer gives out the same secret to every lease. It is an issuer.Issuer, safe for concurrent use.
type Issuer struct {
	kind   cred.CredentialType
	fields map[string]Source
}

// New returns an issuer, or an Invalid error where the configuration can't work. It reads nothing yet.
func New(cfg Config) (*Issuer, error) {
	if len(cfg.Fields) == 0 {
		return nil, &cred.Error{Kind: cred.Invalid, Op: "static", Public: "a static issuer needs at least one field"}
	}
	if cfg.Type == "" {
		cfg.Type = typeOf(cfg.Fields)
	}
	return &Issuer{cfg.Type, cfg.Fields}, nil
}

func typeOf(fields map[string]Source) cred.CredentialType {
	_, token := fields["token"]
	_, user := fields["username"]
	_, password := fields["password"]
	switch {
	case token && len(fields) == 1:
		return cred.Bearer
	case user && password && len(fields) == 2:
		return cred.UserPassword
	default:
		return cred.KV
	}
}

// lifelong is what the lease of a static secret says.
const lifelong = "a static secret: its source can't end it, so it lives until it is exchanged there"

// Issue reads the secret. Direct delivery is refused: whoever got it would have it for ever.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	if spec.Target.Deliver != cred.DeliverProxy {
		return cred.Credential{}, cred.Lease{}, &cred.Error{
			Kind: cred.Invalid, Op: "static.issue", Reason: "STATIC_NOT_DIRECT",
			Public: "a static secret is never handed to a caller; the target must be delivered through a proxy",
		}
	}
	if !time.Now().Before(spec.NotAfter) {
		return cred.Credential{}, cred.Lease{}, &cred.Error{Kind: cred.Expired, Op: "static.issue", Public: "the grant has ended"}
	}
	if err := ctx.Err(); err != nil {
		return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Unavailable, "static.issue", "the time for this call ran out", "%w: %w", issuer.ErrNotIssued, err)
	}
	c := cred.Credential{Type: i.kind, Fields: make(map[string]cred.Secret, len(i.fields))}
	for name, read := range i.fields {
		secret, err := read()
		if err != nil {
			return cred.Credential{}, cred.Lease{}, &cred.Error{
				Kind: cred.Unavailable, Op: "static.issue", Reason: "SECRET_UNREADABLE",
				Public: "the broker can't read the secret of this target; its operators find the reason in the broker's log",
				Err:    fmt.Errorf("%w: field %q: %w", issuer.ErrNotIssued, name, err),
			}
		}
		c.Fields[name] = secret
	}
	return c, cred.Lease{Revocable: false, NotAfter: spec.NotAfter, Note: lifelong}, nil
}

// Revoke refuses, since nothing here ends a secret, but for a handle that we never gave out.
func (i *Issuer) Revoke(_ context.Context, l cred.Lease) error {
	if l.Handle != "" {
		return nil
	}
	return &cred.Error{Kind: cred.Invalid, Op: "static.revoke", Reason: "NOT_REVOCABLE", Public: "a static secret can't be revoked; exchange it at its source"}
}

// ParseSource reads a reference: "file:PATH", relative to dir, or "env:NAME". The file must have mode
// 0600; a newline at its end is not part of the secret.
func ParseSource(reference, dir string) (Source, error) {
	scheme, rest, _ := strings.Cut(reference, ":")
	switch {
	case scheme == "file" && rest != "":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(dir, rest)
		}
		return func() (cred.Secret, error) { return readFile(rest) }, nil
	case scheme == "env" && rest != "":
		return func() (cred.Secret, error) { return readEnv(rest) }, nil
	}
	return nil, fmt.Errorf("must be file:PATH or env:NAME; a secret itself does not belong into the configuration")
}

func readFile(path string) (cred.Secret, error) {
	raw, err := keyfile.Read(path)
	if err != nil {
		return cred.Secret{}, err
	}
	secret := cred.SecretString(strings.TrimRight(raw.RevealString(), "\r\n"))
	if secret.IsZero() {
		return secret, fmt.Errorf("static: the file %s is empty", path)
	}
	return secret, nil
}

func readEnv(name string) (cred.Secret, error) {
	secret := cred.SecretString(os.Getenv(name))
	if secret.IsZero() {
		return secret, fmt.Errorf("static: the variable %s is not set", name)
	}
	return secret, nil
}
