package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target.
const (
	paramPolicy     = "policy"          // a session policy, JSON: what the session may do of what its role may
	paramPolicyARNs = "policy_arns"     // managed policies as further session policies, separated by commas
	paramTags       = "tags"            // NAME=VALUE, separated by commas
	paramTransitive = "transitive_tags" // names of tags that stay when the session takes another role
)

var params = []string{paramPolicy, paramPolicyARNs, paramTags, paramTransitive}

// The bounds of API_AssumeRoleWithWebIdentity and of session tags
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html).
const (
	maxPolicy     = 2048 // characters
	maxPolicyARNs = 10
	maxTags       = 50
	maxTagName    = 128 // characters
	maxTagValue   = 256
)

var (
	roleARN   = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::(\d{12}):role/(?:[!-~]{1,510}/)?([\w+=,.@-]{1,64})$`)
	policyARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(?:aws|\d{12}):policy/[!-~]{1,512}$`)
	session   = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	tagText   = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+@-]+$`)
)

// The claims by which an ID token gives a session its tags and its source identity
// (id_session-tags.html; https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html).
const (
	claimTags           = "https://aws.amazon.com/tags"
	claimSourceIdentity = "https://aws.amazon.com/source_identity"
)

// plan is what a lease asks for, worked out before anything is asked.
type plan struct {
	spec       issuer.Spec
	role       string // ARN
	session    string // its name
	policy     string // empty: none
	policyARNs []string
	ending     bool // the policy denies everything from the grant's end on
	claims     map[string]any
}

func (cfg *Config) plan(spec issuer.Spec) (plan, error) {
	from := spec.Target.Credential
	if !time.Now().Before(spec.NotAfter) {
		return plan{}, refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	if err := checkShape(from); err != nil {
		return plan{}, err
	}
	p := plan{spec: spec, role: from.Path, session: string(spec.Grant)}
	if p.role == "" {
		p.role = cfg.RoleARN
	}
	if p.session == "" {
		p.session = string(spec.ID)
	}
	if !isRole(p.role) {
		return plan{}, refuse("ROLE_INVALID", "the target's path must be the ARN of a role, such as arn:aws:iam::123456789012:role/deploy")
	}
	if !session.MatchString(p.session) {
		return plan{}, refuse("SESSION_NAME_INVALID", "the grant's ID can't be the name of a session of AWS: 2 to 64 letters, digits and _+=,.@-")
	}
	var err error
	if p.policy, err = policyOf(from.Params); err != nil {
		return plan{}, err
	}
	if p.policyARNs, err = policyARNsOf(from.Params); err != nil {
		return plan{}, err
	}
	if p.ending = time.Until(spec.NotAfter) < shortGrant; p.ending {
		if p.policy, err = p.endingPolicy(); err != nil {
			return plan{}, err
		}
	}
	p.claims, err = claimsOf(p.session, from.Params)
	return p, err
}

// endingPolicy returns the session policy with the grant's end in it.
func (p *plan) endingPolicy() (string, error) {
	policy, err := endingAt(p.policy, len(p.policyARNs) > 0, p.spec.NotAfter)
	if err != nil {
		return "", refuse("POLICY_MALFORMED", publicPolicyForm)
	}
	if n := utf8.RuneCountInString(policy); n > maxPolicy {
		return "", refuse("POLICY_TOO_LARGE", fmt.Sprintf("for a grant of less than 15 minutes the target's session policy has to deny what comes after, with which it has %d characters, and AWS takes %d; use managed policies (policy_arns), fewer statements, or longer grants", n, maxPolicy))
	}
	return policy, nil
}

// checkShape refuses what a target can't ask of this issuer.
func checkShape(from cred.CredentialSource) error {
	if from.Type != "" && from.Type != cred.AWS {
		return refuse("FIELD_MISSING", fmt.Sprintf("a session of AWS can't make a credential of type %s; the target's type must be aws", from.Type))
	}
	if len(from.Fields) > 0 {
		return refuse("FIELD_MISSING", "a target of AWS can't rename its fields: they are access_key_id, secret_access_key and session_token")
	}
	return tokenapi.CheckParams("aws.issue", from.Params, params)
}

func isRole(arn string) bool { return len(arn) <= maxPolicy && roleARN.MatchString(arn) }

// policyOf returns the session policy without white space, of which AWS counts each character. An
// empty one is refused: to AWS it means no bound at all.
func policyOf(params map[string]string) (string, error) {
	text, ok := params[paramPolicy]
	if !ok {
		return "", nil
	}
	policy := jsontext.Value(text)
	var parts struct {
		Statement jsontext.Value `json:"Statement"`
	}
	if policy.Compact() != nil || json.Unmarshal(policy, &parts) != nil || len(parts.Statement) == 0 {
		return "", refuse("POLICY_MALFORMED", publicPolicyForm)
	}
	if strings.ContainsFunc(string(policy), func(r rune) bool { return r > 0xFF }) {
		return "", refuse("POLICY_MALFORMED", "the target's session policy has a character that AWS does not take: those up to U+00FF are fine")
	}
	if n := utf8.RuneCount(policy); n > maxPolicy {
		return "", refuse("POLICY_TOO_LARGE", fmt.Sprintf("the target's session policy has %d characters without white space, and AWS takes %d; use managed policies (policy_arns) or fewer statements", n, maxPolicy))
	}
	return string(policy), nil
}

func policyARNsOf(params map[string]string) ([]string, error) {
	arns, err := list(params, paramPolicyARNs)
	if err != nil {
		return nil, err
	}
	if len(arns) > maxPolicyARNs {
		return nil, refuse("POLICY_TOO_LARGE", fmt.Sprintf("the target names %d managed policies, and AWS takes %d", len(arns), maxPolicyARNs))
	}
	for _, arn := range arns {
		if !policyARN.MatchString(arn) {
			return nil, refuse("PARAM_INVALID", "the target's policy_arns must be ARNs of managed policies, such as arn:aws:iam::aws:policy/ReadOnlyAccess, separated by commas")
		}
	}
	return arns, nil
}

// list returns the parts of a parameter; one that is there has at least one, and none twice.
func list(params map[string]string, name string) ([]string, error) {
	text, ok := params[name]
	if !ok {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
		if parts[i] == "" || slices.Contains(parts[:i], parts[i]) {
			return nil, refuse("PARAM_INVALID", fmt.Sprintf("the target's parameter %q has a part that is empty or stands there twice", name))
		}
	}
	return parts, nil
}

// claimsOf returns what the ID token tells AWS of the session.
func claimsOf(session string, params map[string]string) (map[string]any, error) {
	claims := map[string]any{claimSourceIdentity: session}
	tags, err := tagsOf(params)
	if err != nil {
		return nil, err
	}
	transitive, err := list(params, paramTransitive)
	if err != nil {
		return nil, err
	}
	for _, name := range transitive {
		if _, ok := tags[name]; !ok {
			return nil, refuse("PARAM_INVALID", fmt.Sprintf("the target's transitive_tags name %q, which is none of its tags", name))
		}
	}
	if len(tags) > 0 {
		about := map[string]any{"principal_tags": tags}
		if len(transitive) > 0 {
			about["transitive_tag_keys"] = transitive
		}
		claims[claimTags] = about
	}
	return claims, nil
}

// tagsOf reads the session tags. To AWS their names are the same in upper and lower case.
func tagsOf(params map[string]string) (map[string][]string, error) {
	pairs, err := list(params, paramTags)
	if err != nil {
		return nil, err
	}
	if len(pairs) > maxTags {
		return nil, refuse("PARAM_INVALID", fmt.Sprintf("the target has %d tags, and AWS takes %d", len(pairs), maxTags))
	}
	tags, seen := map[string][]string{}, map[string]bool{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !isTag(name, maxTagName) || !isTag(value, maxTagValue) || strings.HasPrefix(strings.ToLower(name), "aws:") {
			return nil, refuse("PARAM_INVALID", "the target's tags must be NAME=VALUE separated by commas, of letters, digits, spaces and _.:/+-@, a name of at most 128 characters that does not begin with aws: and a value of at most 256")
		}
		if seen[strings.ToLower(name)] {
			return nil, refuse("PARAM_INVALID", fmt.Sprintf("the target has the tag %q twice; to AWS upper and lower case are the same", name))
		}
		tags[name], seen[strings.ToLower(name)] = []string{value}, true
	}
	return tags, nil
}

func isTag(text string, longest int) bool {
	return tagText.MatchString(text) && utf8.RuneCountInString(text) <= longest
}
