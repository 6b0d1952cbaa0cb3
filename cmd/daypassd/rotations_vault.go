package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/aws"
	"github.com/daypass-io/daypass/issuer/github"
	"github.com/daypass-io/daypass/issuer/gitlab"
	"github.com/daypass-io/daypass/issuer/kv"
	"github.com/daypass-io/daypass/issuer/vault"
)

// vaultRootSection is a root that Vault rotates itself; docs/rotation/vault.md says what each key means.
type vaultRootSection struct {
	Issuer string        `yaml:"issuer,required"`
	Path   string        `yaml:"path,required"`
	Engine string        `yaml:"engine"`
	Verify verifySection `yaml:"verify"`
	Keys   *keysSection  `yaml:"keys"`
}

// verifySection says how a rotation proves that the new root works.
type verifySection struct {
	Path       string            `yaml:"path"`
	Params     map[string]string `yaml:"params"`
	Postgres   string            `yaml:"postgres"`
	AllowPlain bool              `yaml:"allow_plain"`
	Command    []string          `yaml:"command"`
	Timeout    time.Duration     `yaml:"timeout"`
}

func (v verifySection) problems(at *strictyaml.Node, key string) strictyaml.Problems {
	if v.Postgres != "" && len(v.Command) > 0 {
		return strictyaml.Problems{at.Problem(key, "must have at most one of postgres and command", "")}
	}
	if _, err := v.probe(); err != nil {
		return strictyaml.Problems{at.Problem(key, cred.PublicText(err), "")}
	}
	return nil
}

// probe returns what uses a fresh credential; nil: nothing does.
func (v verifySection) probe() (kv.Probe, error) {
	switch {
	case v.Postgres != "":
		return kv.ProbePostgres(v.Postgres, v.AllowPlain)
	case len(v.Command) > 0:
		return kv.ProbeCommand(kv.Command{Argv: v.Command, Timeout: v.Timeout})
	}
	return nil, nil
}

// keysSection says whose access keys at AWS a rotation looks after, and where the credentials for that
// are minted.
type keysSection struct {
	Path       string            `yaml:"path,required"`
	Params     map[string]string `yaml:"params"`
	Region     string            `yaml:"region"`
	Endpoint   string            `yaml:"endpoint"`
	User       string            `yaml:"user"`
	AllowPlain bool              `yaml:"allow_plain"`
	CAFile     string            `yaml:"ca_file"`
	Timeout    time.Duration     `yaml:"timeout"`
}

func (v *vaultRootSection) of() string { return v.Issuer }

func (v *vaultRootSection) problems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	problems := append(s.issuerProblem(at, v.Issuer, vaultDriver), v.Verify.problems(at, "verify")...)
	return append(problems, v.keysProblems(s, at)...)
}

// keysProblems makes what looks after the access keys, which asks nothing yet.
func (v *vaultRootSection) keysProblems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	if v.Keys == nil {
		return nil
	}
	if _, err := v.Keys.open(s, workshop{}, v.Issuer); err != nil {
		return strictyaml.Problems{at.Problem("keys", cred.PublicText(err), "")}
	}
	return nil
}

func (v *vaultRootSection) open(s *settings, w workshop) (issuer.Rotator, error) {
	from, verify, err := w.vault(v.Issuer, v.Verify)
	if err != nil {
		return nil, err
	}
	c := vault.RootConfig{Path: v.Path, Engine: v.Engine, Verify: verify}
	if v.Keys != nil {
		if c.Keys, err = v.Keys.open(s, w, v.Issuer); err != nil {
			return nil, err
		}
	}
	return from.RootRotator(c)
}

// keyCredentialLife is how long credentials that look after access keys are asked for. Each is used for half
// of what it lives, which may be less.
const keyCredentialLife = 15 * time.Minute

// open makes what looks after the keys. A credential that was replaced is not ended: a request may be under
// way with it, whose failure would be the rotation's, and it ends by itself.
func (v *keysSection) open(s *settings, w workshop, name string) (issuer.KeyLister, error) {
	var mu sync.Mutex
	var held broker.Own
	var until time.Time // when it is replaced
	return aws.NewAccessKeys(aws.KeysConfig{
		Region: v.Region, Endpoint: v.Endpoint, User: v.User, AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout,
		Credentials: func(ctx context.Context) (cred.Credential, error) {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			if now.Before(until) {
				return held.Credential, nil
			}
			fresh, err := w.own.MintOwn(ctx, "access keys of "+w.root, cred.CredentialSource{Issuer: name, Path: v.Path, Params: v.Params}, now.Add(keyCredentialLife))
			if err != nil {
				return cred.Credential{}, err
			}
			life := keyCredentialLife
			if !fresh.NotAfter.IsZero() {
				life = min(life, fresh.NotAfter.Sub(now))
			}
			held, until = fresh, now.Add(life/2)
			return held.Credential, nil
		},
	})
}

// vault returns a Vault issuer by its name, and how a rotation of something of its proves that the new works.
func (w workshop) vault(name string, verify verifySection) (*vault.Issuer, vault.VerifyConfig, error) {
	v, ok := w.find(name).(*vault.Issuer)
	if !ok {
		return nil, vault.VerifyConfig{}, cred.Errorf(cred.Invalid, "rotation", "there is no issuer with the driver vault of this name", "no vault %q", name)
	}
	probe, err := verify.probe()
	return v, vault.VerifyConfig{Path: verify.Path, Params: verify.Params, Probe: probe}, err
}

// appRoleSection is the broker's own secret ID at Vault; docs/rotation/vault.md says what each key means.
type appRoleSection struct {
	Issuer   string        `yaml:"issuer,required"`
	RoleName string        `yaml:"role_name,required"`
	Verify   verifySection `yaml:"verify"`
}

func (v *appRoleSection) of() string { return v.Issuer }

func (v *appRoleSection) problems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	return append(s.issuerProblem(at, v.Issuer, vaultDriver), v.Verify.problems(at, "verify")...)
}

func (v *appRoleSection) open(_ *settings, w workshop) (issuer.Rotator, error) {
	from, verify, err := w.vault(v.Issuer, v.Verify)
	if err != nil {
		return nil, err
	}
	return from.SecretIDRotator(vault.SecretIDConfig{RoleName: v.RoleName, Verify: verify})
}

// kvSection is a secret that Vault keeps and that opens something else; docs/rotation/kv.md says what each
// key means.
type kvSection struct {
	Issuer       string        `yaml:"issuer,required"`
	Path         string        `yaml:"path,required"`
	Overlap      time.Duration `yaml:"overlap"`
	KeepVersions int           `yaml:"keep_versions"`
	Verify       verifySection `yaml:"verify"`

	Postgres *kvPostgres `yaml:"postgres"`
	GitLab   *kvGitLab   `yaml:"gitlab"`
	Command  *kvCommand  `yaml:"command"`
}

type kvPostgres struct {
	URL           string   `yaml:"url,required"`
	AllowPlain    bool     `yaml:"allow_plain"`
	Roles         []string `yaml:"roles"`
	Role          string   `yaml:"role"`
	UsernameField string   `yaml:"username_field"`
	PasswordField string   `yaml:"password_field"`
	Admin         *kvAdmin `yaml:"admin"`
}

type kvAdmin struct {
	Username string `yaml:"username,required"`
	Password string `yaml:"password,required"` // file:PATH, env:NAME or vault:ISSUER/PATH#FIELD
}

type kvGitLab struct {
	URL        string        `yaml:"url"`
	Project    string        `yaml:"project"`
	Field      string        `yaml:"field"`
	Life       time.Duration `yaml:"life"`
	Token      string        `yaml:"token"` // file:PATH, env:NAME or vault:ISSUER/PATH#FIELD
	AllowPlain bool          `yaml:"allow_plain"`
	CAFile     string        `yaml:"ca_file"`
	Timeout    time.Duration `yaml:"timeout"`
}

type kvCommand struct {
	Argv    []string      `yaml:"argv,required"`
	Env     []string      `yaml:"env"`
	Timeout time.Duration `yaml:"timeout"`
}

func (v *kvSection) of() string { return v.Issuer }

func (v *kvSection) problems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	problems := append(s.issuerProblem(at, v.Issuer, vaultDriver), v.Verify.problems(at, "verify")...)
	openers := slices.DeleteFunc([]bool{v.Postgres != nil, v.GitLab != nil, v.Command != nil}, func(given bool) bool { return !given })
	if len(openers) != 1 {
		return append(problems, at.Problem("", "must have exactly one of postgres, gitlab and command", ""))
	}
	if v.Postgres != nil && v.Postgres.Admin != nil {
		problems = append(problems, s.referenceProblem(at, "postgres.admin.password", v.Postgres.Admin.Password)...)
	}
	if v.GitLab != nil {
		problems = append(problems, s.referenceProblem(at, "gitlab.token", v.GitLab.Token)...)
	}
	if v.Verify.Path != "" || len(v.Verify.Params) > 0 {
		problems = append(problems, at.Problem("verify", "takes postgres or command: what is used is the secret itself", ""))
	}
	return problems
}

func (v *kvSection) open(s *settings, w workshop) (issuer.Rotator, error) {
	from, verify, err := w.vault(v.Issuer, v.Verify)
	if err != nil {
		return nil, err
	}
	opener, err := v.opener(s, w)
	if err != nil {
		return nil, err
	}
	return kv.New(kv.Config{Keeper: from, Path: v.Path, Opener: opener, Overlap: v.Overlap, KeepVersions: v.KeepVersions, Verify: verify.Probe})
}

func (v *kvSection) opener(s *settings, w workshop) (kv.Opener, error) {
	switch {
	case v.Postgres != nil:
		return v.Postgres.open(s, w)
	case v.GitLab != nil:
		return v.GitLab.open(s, w)
	default:
		return kv.Command{Argv: v.Command.Argv, Env: v.Command.Env, Timeout: v.Command.Timeout}.Open()
	}
}

func (v *kvPostgres) open(s *settings, w workshop) (kv.Opener, error) {
	p := kv.Postgres{
		Address: v.URL, AllowPlain: v.AllowPlain, Roles: v.Roles, Role: v.Role, UsernameField: v.UsernameField, PasswordField: v.PasswordField,
	}
	if v.Admin != nil {
		load, err := s.loader(w, v.Admin.Password)
		if err != nil {
			return nil, err
		}
		p.Admin = func(ctx context.Context) (cred.Credential, error) {
			password, err := load(ctx)
			return cred.Credential{Type: cred.UserPassword, Fields: map[string]cred.Secret{"username": cred.SecretString(v.Admin.Username), "password": password}}, err
		}
	}
	return p.Open()
}

func (v *kvGitLab) open(s *settings, w workshop) (kv.Opener, error) {
	c := gitlab.TokenConfig{
		Config:  gitlab.Config{BaseURL: v.URL, AllowPlain: v.AllowPlain, CAFile: s.path(v.CAFile), Timeout: v.Timeout},
		Project: v.Project, Field: v.Field, Life: v.Life,
	}
	if v.Token != "" {
		root, err := s.loader(w, v.Token)
		if err != nil {
			return nil, err
		}
		c.Root = root
	}
	return gitlab.NewToken(c)
}

// appKeySection is the private key of a GitHub App; docs/rotation/github-app.md says what each key means.
type appKeySection struct {
	Issuer  string            `yaml:"issuer,required"`
	NextKey string            `yaml:"next_key,required"` // a file
	Verify  map[string]string `yaml:"verify"`            // params of a target's credential
}

func (v *appKeySection) of() string { return v.Issuer }

func (v *appKeySection) problems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	problems := s.issuerProblem(at, v.Issuer, githubDriver)
	if app := s.githubApp(v.Issuer); app != nil && app.PrivateKey.File == "" {
		problems = append(problems, at.Problem("issuer", "has its key in Vault, which rotates keys itself", "rotate the transit key there"))
	}
	return problems
}

func (v *appKeySection) open(s *settings, _ workshop) (issuer.Rotator, error) {
	app := s.githubApp(v.Issuer)
	if app == nil || s.sealing == nil {
		return nil, cred.Errorf(cred.Invalid, "rotation", "there is no issuer with the driver github_app of this name", "no app %q", v.Issuer)
	}
	return github.NewKeyRotator(github.KeyRotatorConfig{
		Config: app.config(s), Key: github.KeyFile{Path: s.path(app.PrivateKey.File)}, Next: github.KeyFile{Path: s.path(v.NextKey)},
		Verify: cred.CredentialSource{Issuer: v.Issuer, Params: v.Verify},
	})
}
