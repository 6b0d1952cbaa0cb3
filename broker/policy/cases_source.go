package policy

import (
	"time"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// CaseFile is a file of cases that stands beside the rules: what must be said to whom.
type CaseFile struct {
	// The cases.
	Cases []Case `yaml:"cases,required"`
}

// Case is one request and what is expected of it.
type Case struct {
	// What it shows, in words.
	Name string `yaml:"name,required"`
	// Who asks.
	Who CaseWho `yaml:"who"`
	// What is asked for.
	Wants CaseWants `yaml:"wants"`
	// What must come of it.
	Expects CaseExpects `yaml:"expects"`

	at *strictyaml.Node
}

// CaseWho is a caller, as a token would tell of one or as rules see one.
type CaseWho struct {
	// The identity provider's name.
	Provider string `yaml:"provider,required"`
	// The claims of a token, from which the principal is made as from a real one. `iss` and `aud` are
	// not needed.
	Claims *strictyaml.Node `yaml:"claims"`
	// In place of `claims`: what rules see.
	Principal *CasePrincipal `yaml:"principal"`
	// Who acts for the caller.
	Actor *CaseWho `yaml:"actor"`
}

// CasePrincipal is a caller as rules see one.
type CasePrincipal struct {
	// The subject.
	Subject string `yaml:"subject,required"`
	// The name that is shown.
	Name string `yaml:"name"`
	// What the caller is; the default is what the provider's callers are.
	Kind string `yaml:"kind" enum:"workload,person,agent"`
	// The groups. Left out they are unknown, which is not none: write `[]` for none.
	Groups *strictyaml.Node `yaml:"groups"`
	// Claims, for rules that read them.
	Claims *strictyaml.Node `yaml:"claims"`
}

// CaseWants is a request.
type CaseWants struct {
	// The target.
	Target string `yaml:"target,required"`
	// The scopes.
	Scopes []string `yaml:"scopes"`
	// The parameters.
	Params map[string]string `yaml:"params"`
	// The lifetime; the rule's where it is not set.
	TTL time.Duration `yaml:"ttl"`
	// The reason.
	Reason string `yaml:"reason"`
	// How the caller proves that it has the key to which the grant is bound.
	Binding string `yaml:"binding" enum:"dpop,mtls"`
	// When it is asked, in RFC 3339; now where it is not set.
	At string `yaml:"at"`
}

// CaseExpects is what must come of a request. What is not set is not compared.
type CaseExpects struct {
	// `allowed` at once, `pending` until people agree, or `denied`.
	Decision string `yaml:"decision,required" enum:"allowed,pending,denied"`
	// The rule that allows, or that comes nearest.
	Rule string `yaml:"rule"`
	// The reason of a refusal, such as `NO_RULE_MATCHES`, as the log has it.
	Reason string `yaml:"reason"`
	// Whose approval is asked.
	Approval *CaseApproval `yaml:"approval"`
	// Why nobody's is although the rule asks for it: `on_call/NAME` or `break_glass`.
	Exempt string `yaml:"exempt"`
	// How long the grant lives.
	TTL time.Duration `yaml:"ttl"`
	// Where the credential goes.
	Deliver string `yaml:"deliver" enum:"direct,proxy"`
}

// CaseApproval is whose approval is asked.
type CaseApproval struct {
	// Groups that must all agree.
	AllOf []Quorum `yaml:"all_of"`
	// Groups of which one must agree.
	AnyOf []Quorum `yaml:"any_of"`
}
