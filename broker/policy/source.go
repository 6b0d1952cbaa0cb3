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
	// Groups of people, for rules, roles and approvals. One that is defined here takes the place of a
	// group of the same name in tokens.
	Groups []Group `yaml:"groups"`
	// Who is on call when, for approvals that need nobody's answer then.
	OnCall []OnCall `yaml:"on_call"`
	// What is refused whatever the rules allow. A condition here that can't be evaluated counts as true.
	Deny []Deny `yaml:"deny"`
	// Who may have what. Nothing is allowed that no rule allows; of the rules that match, the first
	// one decides.
	Rules []Rule `yaml:"rules"`

	// At is where the source was read, for the places of problems; nil where it was not.
	At *strictyaml.Node
	// Providers are the names that rules may compare principal.provider with; nil permits all.
	Providers []string
	// NoTokenGroups says that no provider's tokens list groups, so that there are none but Groups.
	NoTokenGroups bool
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
	// How often grants for it are made.
	Quota Quota `yaml:"quota"`
}

// Quota bounds how often grants for a target are made. What is over it is refused, and told when to
// ask again.
type Quota struct {
	// For each caller: so many in a time, such as `30/1h`. The count fills up evenly over the time.
	PerPrincipal string `yaml:"per_principal"`
	// For all callers together.
	Total string `yaml:"total"`
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
	// Where the credential goes, in place of what the target says. `proxy` needs a target with `http`.
	Deliver string `yaml:"deliver" enum:"direct,proxy"`
	// Ways of binding the grant to a key of the caller's, of which the request must use one: `dpop` (RFC
	// 9449) or `mtls` (RFC 8705).
	Bind []string `yaml:"bind" enum:"dpop,mtls"`
	// How often a grant may be renewed before its end, at most 1000.
	Renewals int `yaml:"renewals"`
	// When the rule counts; empty: always. A grant ends with its window.
	Windows []Window `yaml:"windows"`
	// Whose agreement is needed.
	Approval *Approval `yaml:"approval"`
	// Makes the rule one for emergencies: nobody is asked, a reason must be given, the groups of every
	// approval for the target are told at once, and a review is owed afterwards.
	BreakGlass *BreakGlass `yaml:"break_glass"`
}

// May is a target, or targets, with scopes and parameters.
type May struct {
	// A target's name, or a pattern in which `*` stands for any characters.
	Target string `yaml:"target,required"`
	// The scopes that may be asked for; `*` in them stands for any characters. Without scopes, only
	// a request without scopes is allowed.
	Scopes []string `yaml:"scopes"`
	// The parameters that may be sent, by name. What is not listed may not be sent.
	Params map[string]Param `yaml:"params"`
}

// Param bounds a parameter. It has `one_of` or `any_of`.
type Param struct {
	// The values that it may have.
	OneOf []string `yaml:"one_of"`
	// Patterns, in which `*` stands for any characters. The value is a list with commas, and each of
	// its elements must match one of them. An empty list is refused.
	AnyOf []string `yaml:"any_of"`
	// Whether it must be sent.
	Required bool `yaml:"required"`
	// The value where it is not sent. Without a default it is then absent, which may mean no bound at
	// all to the issuer.
	Default string `yaml:"default"`
}

// Window is a time of the week.
type Window struct {
	// The days on which it begins; empty: every day.
	Days []string `yaml:"days" enum:"mon,tue,wed,thu,fri,sat,sun"`
	// When it opens, as `22:00`. A time that the clock skips or shows twice counts when the clock first
	// shows it or a later one.
	From string `yaml:"from,required"`
	// When it closes, as `06:00`, at most `24:00`; on the next day where it is not after `from`.
	To string `yaml:"to,required"`
	// The time zone of both, by its IANA name, such as `Europe/Berlin`.
	Zone string `yaml:"zone,required"`
}

// Schedule says when a root credential is rotated without being asked.
type Schedule struct {
	// How long after the end of the last rotation, from 1h to 1098d.
	Every time.Duration `yaml:"every,required"`
	// When it may begin: within one of these windows. At any time by default. What has begun goes on.
	Windows []Window `yaml:"windows"`
}

// Approval says who must agree to a request: each of `all_of`, and one of `any_of`. A person counts
// once, in one group, and never for a request of their own.
type Approval struct {
	// Groups that must all agree.
	AllOf []Quorum `yaml:"all_of"`
	// Groups of which one must agree.
	AnyOf []Quorum `yaml:"any_of"`
	// How long after the request the grant can be had, from 1m to 7d; after that it must be asked for
	// again.
	Within time.Duration `yaml:"within,required"`
	// How often those who are asked are reminded, at least 1m; less than `within`. Never by default.
	Remind time.Duration `yaml:"remind"`
	// The greatest age of an approver's sign-in, at least 1m. Any by default.
	Fresh time.Duration `yaml:"fresh"`
	// The name of a schedule in `on_call`: whoever is on call need not ask, and the grant ends with
	// the shift.
	OnCall string `yaml:"on_call"`
}

// Quorum is how many people of a group must agree.
type Quorum struct {
	// The group's name, in `groups` or in tokens.
	Group string `yaml:"group,required"`
	// How many, at most 20.
	Count int `yaml:"count" default:"1"`
}

// BreakGlass bounds what is given in an emergency.
type BreakGlass struct {
	// The longest life of the grant, at most 24h.
	MaxTTL time.Duration `yaml:"max_ttl,required"`
	// Who must look at it afterwards.
	Review Review `yaml:"review"`
}

// Review is a look at a grant that nobody approved beforehand.
type Review struct {
	// The groups whose members can sign it off.
	Groups []string `yaml:"groups,required"`
	// How long after the grant it is due, from 1m to 30d. It stays open until it is signed off.
	Within time.Duration `yaml:"within,required"`
}

// Deny refuses some callers some targets, whatever rules allow.
type Deny struct {
	// The name that denials and the log show.
	Name string `yaml:"name,required"`
	// A CEL expression, as a rule has it, for those who may not.
	Who string `yaml:"who,required"`
	// A further CEL expression that must be true.
	When string `yaml:"when"`
	// What they may not have.
	May []DenyOf `yaml:"may,required"`
	// Why, in words for whoever is refused.
	Reason string `yaml:"reason"`
}

// DenyOf is a target, or targets, and scopes.
type DenyOf struct {
	// A target's name, or a pattern in which `*` stands for any characters.
	Target string `yaml:"target,required"`
	// The scopes that may not be asked for; `*` in them stands for any characters. Without scopes,
	// nothing may be asked of the target.
	Scopes []string `yaml:"scopes"`
}

// Group is a group of people. Whoever is one of its members, or whom `who` is true for, is in it.
type Group struct {
	// The name, as rules see it in `principal.groups`.
	Name string `yaml:"name,required"`
	// People by name.
	Members []Member `yaml:"members"`
	// A CEL expression over `principal`. In it `principal.groups` holds the groups of the token alone.
	Who string `yaml:"who"`
}

// Member is somebody whom an identity provider knows: by `subject`, or by an `email` address that the
// provider verified.
type Member struct {
	// The identity provider's name.
	Provider string `yaml:"provider,required"`
	// The subject (`sub`) of their tokens.
	Subject string `yaml:"subject"`
	// The e-mail address; capital letters do not count. Their tokens must say `email_verified`.
	Email string `yaml:"email"`
}

// OnCall is a schedule, in this file or in one of its own.
type OnCall struct {
	// The name that approvals use.
	Name string `yaml:"name,required"`
	// A YAML file with the key `shifts`, relative to the folder of the configuration file.
	File string `yaml:"file"`
	// The shifts.
	Shifts []Shift `yaml:"shifts"`

	// At is where the shifts were read, where that is a file of their own.
	At *strictyaml.Node
}

// Shift is a time in which somebody is on call.
type Shift struct {
	// Who.
	Person Member `yaml:"person"`
	// When it begins, in RFC 3339 such as `2026-03-02T09:00:00+01:00`.
	From string `yaml:"from,required"`
	// When it ends.
	Until string `yaml:"until,required"`
}
