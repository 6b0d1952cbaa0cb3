package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/static"
	"github.com/daypass-io/daypass/issuer/vault"
	"github.com/daypass-io/daypass/store"
)

// The drivers' keys in the configuration.
const (
	vaultDriver   = "vault"
	staticDriver  = "static"
	githubDriver  = "github_app"
	oauthDriver   = "oauth"
	copilotDriver = "copilot"
	awsDriver     = "aws"
	gcpDriver     = "gcp"
	azureDriver   = "azure"
	gitlabDriver  = "gitlab"
)

// drivers returns all of them.
func drivers() []string {
	return []string{vaultDriver, staticDriver, githubDriver, oauthDriver, copilotDriver, awsDriver, gcpDriver, azureDriver, gitlabDriver}
}

// brokerSubject is who the broker is in the ID tokens that it signs for itself.
const brokerSubject = "daypass-broker"

// driver makes an issuer from a section that was read.
type driver func(s *settings, w workshop) (issuer.Issuer, error)

// errNoSealing is the fault of drivers that seal what their handles hold; why the key is not there has
// been told.
var errNoSealing = &cred.Error{Kind: cred.Invalid, Op: "issuer.open", Public: "needs the store's sealing key"}

// workshop is what issuers, and the rotators of roots, are made with, beside the settings.
type workshop struct {
	keys *token.Live                     // nil where the settings are only checked
	find func(name string) issuer.Issuer // another issuer, once all are made, one of Vault's at once; nil where there is none

	own ownMinter // for what the broker needs itself: the watcher of jobs, and rotators

	// For rotators alone.
	root  string // the rotation's name
	store store.Store
	log   *boltlog.Log
	trust *trust
}

// ownMinter has credentials minted that the broker itself needs, each with its entries in the log. A
// broker.Broker is one.
type ownMinter interface {
	MintOwn(ctx context.Context, purpose string, source cred.CredentialSource, notAfter time.Time) (broker.Own, error)
	EndOwn(ctx context.Context, own broker.Own)
}

// section is an issuer's section in the configuration.
type section interface {
	// problems finds what the types of its keys don't tell.
	problems(s *settings, name string, at *strictyaml.Node) strictyaml.Problems
	open(s *settings, w workshop) (issuer.Issuer, error)
}

// newSection returns the empty section of a driver, nil where there is no such driver.
func newSection(driver string) section {
	switch driver {
	case vaultDriver:
		return &vaultSection{}
	case staticDriver:
		return &staticSection{}
	case githubDriver:
		return &githubSection{}
	case oauthDriver:
		return &oauthSection{}
	case copilotDriver:
		return &copilotSection{}
	case awsDriver:
		return &awsSection{}
	case gcpDriver:
		return &gcpSection{}
	case azureDriver:
		return &azureSection{}
	case gitlabDriver:
		return &gitlabSection{}
	default:
		return nil
	}
}

// readDriver reads an issuer's section.
func (s *settings) readDriver(c config.Issuer) (driver, strictyaml.Problems) {
	v := newSection(c.Driver)
	if v == nil {
		return nil, nil // package config has told that there is no such driver
	}
	problems := c.Decode(v)
	return v.open, problems.Merge(v.problems(s, c.Name, c.Section))
}

// sourceProblems finds the targets of an issuer whose source of credentials its driver refuses.
func (s *settings) sourceProblems(issuer string, check func(cred.CredentialSource) error) strictyaml.Problems {
	var problems strictyaml.Problems
	for i, t := range s.config.Targets {
		if t.Credential.Issuer != issuer {
			continue
		}
		err := check(cred.CredentialSource{
			Issuer: issuer, Path: t.Credential.Path, Params: t.Credential.Params, Type: cred.CredentialType(t.Credential.Type), Fields: t.Credential.Fields,
		})
		if err != nil {
			problems = append(problems, s.config.At.Problem(strictyaml.Index("targets", i)+".credential", cred.PublicText(err), ""))
		}
	}
	return problems
}

// tryDriver makes the issuer of a section, which asks nothing of its source, and closes it again.
func (s *settings) tryDriver(section config.Issuer, d driver) strictyaml.Problems {
	i, err := d(s, workshop{find: func(string) issuer.Issuer { return nil }})
	if err != nil {
		return strictyaml.Problems{section.Section.Problem("", cred.PublicText(err), "")}
	}
	closeIssuer(i)
	return nil
}

// closeIssuer signs out, where that is needed; what is left ends by itself.
func closeIssuer(i issuer.Issuer) {
	if c, ok := i.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}

// openIssuers makes all issuers, by name, and what closes them.
func (s *settings) openIssuers(keys *token.Live) (map[string]issuer.Issuer, func(), error) {
	all := map[string]issuer.Issuer{}
	closeAll := func() {
		for _, i := range all {
			closeIssuer(i)
		}
	}
	w := workshop{keys: keys, find: func(name string) issuer.Issuer { return all[name] }}
	for _, vaults := range []bool{true, false} { // others hold keys there
		for n, section := range s.config.Issuers {
			if (section.Driver == vaultDriver) != vaults {
				continue
			}
			i, err := s.drivers[n](s, w)
			if err != nil {
				closeAll()
				return nil, nil, fmt.Errorf("issuer %q: %s", section.Name, cred.PublicText(err))
			}
			all[section.Name] = i
		}
	}
	return all, closeAll, nil
}

// staticSection is the section of an issuer of static secrets.
type staticSection struct {
	// The secrets by the path under which targets name them, and in each its fields: `file:PATH`
	// (mode 0600), `env:NAME` or `vault:ISSUER/PATH#FIELD`, read anew for each lease.
	Secrets map[string]map[string]string `yaml:"secrets,required"`
}

func (v *staticSection) problems(s *settings, _ string, at *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	for path, fields := range v.Secrets {
		for name, reference := range fields {
			problems = append(problems, s.referenceProblem(at, strictyaml.Key(strictyaml.Key("secrets", path), name), reference)...)
		}
	}
	return problems
}

func (v *staticSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	secrets := map[string]map[string]static.Loader{}
	for path, fields := range v.Secrets {
		secrets[path] = map[string]static.Loader{}
		for name, reference := range fields {
			load, err := s.loader(w, reference)
			if err != nil {
				return nil, err
			}
			secrets[path][name] = load
		}
	}
	return static.New(secrets), nil
}

// fileLoader reads a secret from a file or a variable, anew each time.
func (s *settings) fileLoader(reference string) (static.Loader, error) {
	if file, ok := strings.CutPrefix(reference, "file:"); ok {
		reference = "file:" + s.path(file)
	}
	return static.Parse(reference)
}

// vaultSection is the section of a Vault or OpenBao issuer.
type vaultSection struct {
	// The server's URL.
	Address string `yaml:"address,required"`
	// The namespace, for Vault Enterprise and OpenBao.
	Namespace string `yaml:"namespace"`
	// PEM file of the CA that the server's certificate is from; the system's where absent.
	CAFile string `yaml:"ca_file"`
	// How the broker signs in: one of jwt, approle, kubernetes, token_file.
	Auth vaultAuth `yaml:"auth"`
	// The path of an audit device, such as file: each lease's note then has the hash by which that
	// device's log knows the secret (sys/audit-hash).
	AuditDevice string `yaml:"audit_device"`
	// The token role through which each lease's token is made; leases then outlive the broker's own
	// token where the role says orphan=true.
	TokenRole string `yaml:"token_role"`
	// How long one request may take. The default is 10s.
	Timeout time.Duration `yaml:"timeout"`

	name string // of the issuer
}

type vaultAuth struct {
	// With an ID token that the broker signs itself: Vault needs jwks_url or oidc_discovery_url of
	// the broker, and nothing is stored.
	JWT *vaultJWT `yaml:"jwt"`
	// With a role ID and a secret ID.
	AppRole *vaultAppRole `yaml:"approle"`
	// With the token of the pod's service account.
	Kubernetes *vaultKubernetes `yaml:"kubernetes"`
	// With a token that something else keeps in a file of mode 0600.
	TokenFile string `yaml:"token_file"`
}

type vaultJWT struct {
	// The auth method's path. The default is `jwt`.
	Mount string `yaml:"mount"`
	// The role; it should set token_period.
	Role string `yaml:"role,required"`
	// The audience in the token. The default is the server's address.
	Audience string `yaml:"audience"`
}

type vaultAppRole struct {
	// The auth method's path. The default is `approle`.
	Mount string `yaml:"mount"`
	// The role ID.
	RoleID string `yaml:"role_id,required"`
	// The secret ID, as `file:PATH` or `env:NAME`.
	SecretID cred.Secret `yaml:"secret_id"`
	// The file of mode 0600 with the secret ID, read anew for each sign-in: in place of secret_id, and
	// needed where the secret ID is to be rotated.
	SecretIDFile string `yaml:"secret_id_file"`
}

type vaultKubernetes struct {
	// The auth method's path. The default is `kubernetes`.
	Mount string `yaml:"mount"`
	// The role; it should set token_period.
	Role string `yaml:"role,required"`
	// The file with the token. The default is where pods have it.
	TokenFile string `yaml:"token_file"`
}

func (v *vaultSection) problems(_ *settings, name string, at *strictyaml.Node) strictyaml.Problems {
	v.name = name
	ways := 0
	for _, given := range []bool{v.Auth.JWT != nil, v.Auth.AppRole != nil, v.Auth.Kubernetes != nil, v.Auth.TokenFile != ""} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return strictyaml.Problems{at.Problem("auth", "must have exactly one of jwt, approle, kubernetes, token_file", "")}
	}
	return nil
}

func (v *vaultSection) open(s *settings, w workshop) (issuer.Issuer, error) {
	c := vault.Config{
		Address: v.Address, Namespace: v.Namespace, CAFile: s.path(v.CAFile), TokenRole: v.TokenRole, Timeout: v.Timeout,
		Paths: s.pathsOf(v.name), AuditDevice: v.AuditDevice,
	}
	switch {
	case v.Auth.JWT != nil:
		c.JWT = v.Auth.JWT.config(v.Address, func(audience string) (cred.Secret, error) { return w.idToken(s, audience, idTokenLife, nil) })
	case v.Auth.AppRole != nil:
		a := v.Auth.AppRole
		c.AppRole = &vault.AppRole{Mount: a.Mount, RoleID: a.RoleID, SecretID: a.SecretID, SecretIDFile: s.path(a.SecretIDFile)}
	case v.Auth.Kubernetes != nil:
		k := v.Auth.Kubernetes
		c.Kubernetes = &vault.Kubernetes{Mount: k.Mount, Role: k.Role, Path: s.path(k.TokenFile)}
	case v.Auth.TokenFile != "":
		c.TokenFile = &vault.TokenFile{Path: s.path(v.Auth.TokenFile)}
	default:
		return nil, errors.New("no way to sign in is configured")
	}
	return vault.New(c)
}

// driverOf returns the driver of an issuer, empty where there is none of that name.
func (s *settings) driverOf(name string) string {
	for _, i := range s.config.Issuers {
		if i.Name == name {
			return i.Driver
		}
	}
	return ""
}

// pathsOf lists what targets read from an issuer.
func (s *settings) pathsOf(name string) []string {
	var paths []string
	for _, t := range s.config.Targets {
		asked := len(issuer.Placeholders(t.Credential.Path)) > 0 // what callers choose of it is not known
		if t.Credential.Issuer == name && !asked && !slices.Contains(paths, t.Credential.Path) {
			paths = append(paths, t.Credential.Path)
		}
	}
	return paths
}

// checkIssuers lets each issuer that can look at its own rights do so, and tells the operator what is
// missing. A source that does not answer at the start may answer later, so none of it is fatal.
func checkIssuers(ctx context.Context, logger *slog.Logger, issuers map[string]issuer.Issuer) {
	for name, i := range issuers {
		if c, ok := i.(interface{ Check(context.Context) error }); ok {
			if err := c.Check(ctx); err != nil && ctx.Err() == nil {
				logger.Warn("an issuer is not ready", "issuer", name, "problem", cred.PublicText(err), "error", err)
			}
		}
	}
}

// idTokenLife is how long the broker's own ID token lasts: it is used at once.
const idTokenLife = time.Minute

func (v *vaultJWT) config(address string, sign func(audience string) (cred.Secret, error)) *vault.JWT {
	audience := v.Audience
	if audience == "" {
		audience = address
	}
	return &vault.JWT{
		Mount: v.Mount, Role: v.Role, Audience: audience,
		Source: func(_ context.Context, audience string) (cred.Secret, error) { return sign(audience) },
	}
}

// idToken signs an ID token of the broker's own, with further claims.
func (w workshop) idToken(s *settings, audience string, life time.Duration, claims map[string]any) (cred.Secret, error) {
	if w.keys == nil {
		return cred.Secret{}, cred.Errorf(cred.Internal, "identity", "", "%w", errors.New("the settings are only checked"))
	}
	return w.keys.SignIDToken(s.config.Server.URL, brokerSubject, audience, time.Now(), life, claims)
}

// path resolves a path in an issuer's section.
func (s *settings) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}
