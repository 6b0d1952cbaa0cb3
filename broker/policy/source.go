package policy

import (
	"time"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Source is a rule set as it is written: the part of daypass.yaml that says what there is and who
// may have it.
type Source struct {
	// What callers can ask for.
	Targets []Target `yaml:"targets"`
	// Who may do what to daypass itself: a role's name and a CEL expression over `principal`. The
	// roles are `auditor`, who reads the log, and `security`, who also revokes and rotates.
	Roles map[string]string `yaml:"roles"`
	// Who may have what. Nothing is allowed that no rule allows; of the rules that match, the first
	// one decides.
	Rules []Rule `yaml:"rules"`

	// At is where the source was read, for the places of problems; nil where it was not.
	At *strictyaml.Node
	// Providers are the names that rules may compare principal.provider with; nil permits all.
	Providers []string
}

// Target is something that callers can ask a credential for.
type Target struct {
	// The name that callers and rules use: letters, digits, ".", "_" and "-", at most 128.
	Name string `yaml:"name,required"`
	// Facts for rules to read, as `target.labels`.
	Labels map[string]string `yaml:"labels"`
	// Where the credential comes from.
	Credential Credential `yaml:"credential"`
	// Where the credential goes: `direct` to the caller, or `proxy` to a companion proxy, which spends
	// it for the caller. The default is `proxy` where `http` is set, else `direct`.
	Deliver string `yaml:"deliver" enum:"direct,proxy"`
	// How a proxy spends the credential over HTTP.
	HTTP *HTTP `yaml:"http"`
	// What a proxy masks in answers, besides the credential itself, which it always masks.
	Mask Mask `yaml:"mask"`
}

// Credential says which issuer mints, and from what.
type Credential struct {
	// The name of an issuer.
	Issuer string `yaml:"issuer,required"`
	// Where the issuer reads or mints, e.g. `database/creds/orders-ro`.
	Path string `yaml:"path"`
	// Fixed parameters that the issuer understands.
	Params map[string]string `yaml:"params"`
	// The type of the credential; empty where the issuer tells by itself.
	Type string `yaml:"type" enum:"bearer,user_password,aws,tls,ssh_certificate,kv"`
	// Fields to rename: our name, and the source's.
	Fields map[string]string `yaml:"fields"`
}

// HTTP says where a proxy spends a credential.
type HTTP struct {
	// The base URL of the upstream, http or https, without a query.
	Upstream string `yaml:"upstream,required"`
	// Where in a request the credential goes.
	Inject Inject `yaml:"inject"`
	// Permit an upstream with a private, loopback or link-local address.
	AllowPrivate bool `yaml:"allow_private"`
}

// Inject says how a credential is put into a request.
type Inject struct {
	// `bearer` and `basic` use the Authorization header, `header` and `query` the one that `name`
	// names. The default is `basic` for a user and password, else `bearer`.
	Kind string `yaml:"kind" enum:"bearer,basic,header,query"`
	// The header or query parameter, for `header` and `query`.
	Name string `yaml:"name"`
	// What stands before the value, for `header`.
	Prefix string `yaml:"prefix"`
	// Which field of the credential; the default is `token`, else the only one.
	Field string `yaml:"field"`
}

// Mask says what a proxy masks in answers.
type Mask struct {
	// Detectors by name, or `secrets` or `pii` for all of a group.
	Detectors []string `yaml:"detectors"`
}

// Rule allows some callers some targets.
type Rule struct {
	// The name that denials and the log show.
	Name string `yaml:"name,required"`
	// A CEL expression over `principal`, `request`, `target` and `now` that is true for those who
	// may. Compare `principal.provider` in it: its callers then learn why they are refused.
	Who string `yaml:"who,required"`
	// A further CEL expression that must be true, for conditions that are not about who asks.
	When string `yaml:"when"`
	// What they may have.
	May []May `yaml:"may,required"`
	// The longest life of a grant, at most 30d. A caller may ask for less.
	TTL time.Duration `yaml:"ttl,required"`
}

// May is a target, or targets, and scopes.
type May struct {
	// A target's name, or a pattern in which `*` stands for any characters.
	Target string `yaml:"target,required"`
	// The scopes that may be asked for; `*` in them stands for any characters. Without scopes, only
	// a request without scopes is allowed.
	Scopes []string `yaml:"scopes"`
}
