package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// signIn is a way to get the issuer's own token.
type signIn interface {
	complete() error
	login(ctx context.Context, c *client) (*api.SecretAuth, error)
	// setting names where the properties of the token are configured, for Check's advice.
	setting() string
}

// JWT signs in with a token that the broker signs itself (auth/jwt/login). The role should give
// periodic tokens: token_period set, token_explicit_max_ttl not.
type JWT struct {
	Mount    string // empty: "jwt"
	Role     string
	Audience string // one of the role's bound_audiences
	Source   func(ctx context.Context, audience string) (cred.Secret, error)
}

func (j *JWT) mount() string   { return orDefault(j.Mount, "jwt") }
func (j *JWT) setting() string { return "auth/" + j.mount() + "/role/" + j.Role }

func (j *JWT) complete() error {
	if j.Role == "" || j.Audience == "" || j.Source == nil {
		return invalidConfig("Vault's JWT sign-in needs a role and an audience", errors.New("vault: jwt lacks role, audience or source"))
	}
	return nil
}

func (j *JWT) login(ctx context.Context, c *client) (*api.SecretAuth, error) {
	token, err := j.Source(ctx, j.Audience)
	if err != nil {
		return nil, notIssued("vault.login", "the broker can't sign in to Vault because it has no identity token of its own", err)
	}
	return c.login(ctx, "auth/"+j.mount()+"/login", map[string]any{"role": j.Role, "jwt": token.RevealString()})
}

// Kubernetes signs in with the token that Kubernetes keeps in a file for the broker's own service
// account (auth/kubernetes/login). The file is read anew for each sign-in, since Kubernetes replaces
// it. Its mode is Kubernetes' affair: projected tokens are readable by all in their container.
type Kubernetes struct {
	Mount string // empty: "kubernetes"
	Role  string
	Path  string // of the token; empty: /var/run/secrets/kubernetes.io/serviceaccount/token
}

const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // G101: a path

// maxServiceAccountToken bounds what is read of the file, in bytes.
const maxServiceAccountToken = 64 << 10

func (k *Kubernetes) mount() string   { return orDefault(k.Mount, "kubernetes") }
func (k *Kubernetes) setting() string { return "auth/" + k.mount() + "/role/" + k.Role }

func (k *Kubernetes) complete() error {
	if k.Role == "" {
		return invalidConfig("Vault's Kubernetes sign-in needs a role", errors.New("vault: kubernetes lacks a role"))
	}
	return nil
}

func (k *Kubernetes) login(ctx context.Context, c *client) (*api.SecretAuth, error) {
	token, err := readServiceAccountToken(orDefault(k.Path, serviceAccountToken))
	if err != nil {
		return nil, notIssued("vault.login", "the broker can't read its Kubernetes service account token; its operator has to look at the pod's token volume", err)
	}
	return c.login(ctx, "auth/"+k.mount()+"/login", map[string]any{"role": k.Role, "jwt": token.RevealString()})
}

func readServiceAccountToken(path string) (cred.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return cred.Secret{}, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxServiceAccountToken+1))
	if err == nil && (len(bytes.TrimSpace(b)) == 0 || len(b) > maxServiceAccountToken) {
		err = errors.New("vault: the file with the service account token is empty or too long")
	}
	return cred.NewSecret(bytes.TrimSpace(b)), err
}

// AppRole signs in with a role ID and a secret ID (auth/approle/login).
type AppRole struct {
	Mount  string // empty: "approle"
	RoleID string

	// One of these is the secret ID: itself, or the file where it lies, mode 0600 or narrower, which is
	// read anew for each sign-in. SecretIDRotator needs the file.
	SecretID     cred.Secret
	SecretIDFile string
}

func (a *AppRole) mount() string   { return orDefault(a.Mount, "approle") }
func (a *AppRole) setting() string { return "the role at auth/" + a.mount() + "/role/" }

func (a *AppRole) complete() error {
	if a.RoleID == "" || a.SecretID.IsZero() == (a.SecretIDFile == "") {
		return invalidConfig("Vault's AppRole sign-in needs a role ID, and either a secret ID or the file where it lies", errors.New("vault: approle lacks role_id, or has not one of secret_id and secret_id_file"))
	}
	return nil
}

func (a *AppRole) login(ctx context.Context, c *client) (*api.SecretAuth, error) {
	secret, err := a.secretID()
	if err != nil {
		return nil, notIssued("vault.login", "the broker can't read the secret ID that it signs in to Vault with; its operator has to look at the file", err)
	}
	return c.login(ctx, "auth/"+a.mount()+"/login", map[string]any{"role_id": a.RoleID, "secret_id": secret.RevealString()})
}

func (a *AppRole) secretID() (cred.Secret, error) {
	if a.SecretIDFile == "" {
		return a.SecretID, nil
	}
	return readTrimmed(a.SecretIDFile)
}

// readTrimmed reads a secret from a file and takes off the space around it.
func readTrimmed(path string) (cred.Secret, error) {
	content, err := keyfile.Read(path)
	if err != nil {
		return cred.Secret{}, err
	}
	text := strings.TrimSpace(content.RevealString())
	if text == "" {
		return cred.Secret{}, errors.New("vault: the file is empty")
	}
	return cred.SecretString(text), nil
}

// TokenFile takes the token that somebody else, such as Vault Agent, keeps in a file. The file is
// read again whenever the token that it held has ended. Its mode must be 0600 or narrower.
type TokenFile struct {
	Path string
}

func (f *TokenFile) setting() string { return "the token in the file" }

func (f *TokenFile) complete() error {
	if f.Path == "" {
		return invalidConfig("Vault's token file needs a path", errors.New("vault: token_file lacks a path"))
	}
	return nil
}

// login reads the file and asks Vault what the token is.
func (f *TokenFile) login(ctx context.Context, c *client) (*api.SecretAuth, error) {
	token, err := f.read()
	if err != nil {
		return nil, err
	}
	about, err := c.lookupSelf(ctx, token)
	if err != nil {
		return nil, err
	}
	return &api.SecretAuth{ClientToken: token.RevealString(), LeaseDuration: int(about.ttl.Seconds()), Renewable: about.renewable}, nil
}

func (f *TokenFile) read() (cred.Secret, error) {
	const public = "the broker can't read its Vault token; its operator has to look at the token file"
	token, err := readTrimmed(f.Path)
	if err != nil {
		return cred.Secret{}, notIssued("vault.login", public, err)
	}
	return token, nil
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
