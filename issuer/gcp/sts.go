package gcp

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// Kinds of token that are exchanged, RFC 8693, section 3, and the grant that does it.
const (
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	typeAccess    = "urn:ietf:params:oauth:token-type:access_token"
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	// scopeAll is what a federated token needs to be spent on a service account's. IAM decides what it may.
	scopeAll = "https://www.googleapis.com/auth/cloud-platform"

	// onceLife is the life of an ID token that is spent at once and that no other token ends with.
	onceLife = 5 * time.Minute
	// maxOptions bounds an access boundary, in bytes:
	// https://cloud.google.com/iam/docs/reference/sts/rest/v1/Options
	maxOptions, maxRules = 2048, 10
)

// sign makes the broker's ID token, with the grant's ID for the provider's attribute mapping. A
// federated token ends with it.
func (i *Issuer) sign(ctx context.Context, p plan) (held, error) {
	life := onceLife
	if p.account == "" {
		life = p.life()
	}
	claims := map[string]any{}
	if p.grant != "" {
		claims["grant"] = string(p.grant)
	}
	now := time.Now()
	token, err := i.cfg.Source(ctx, i.cfg.Audience, life, claims)
	if err != nil {
		return held{}, issuer.NotIssued(opIssue, "", publicSource, err)
	}
	return held{token: token, until: now.Add(life), end: now.Add(life)}, nil
}

// federate exchanges the ID token:
// https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
func (i *Issuer) federate(ctx context.Context, p plan, subject held) (held, error) {
	r := exchange("federate", typeJWT, subject.token)
	r.Set("audience", "//iam.googleapis.com/"+i.cfg.Provider)
	r.Set("scope", scopeAll)
	if p.account == "" {
		r.Set("scope", strings.Join(p.scopes, " "))
	}
	last := p.account == "" && p.boundary == nil
	h, err := i.exchange(ctx, r, subject, last)
	if err != nil {
		return held{}, failed(err, last, federation)
	}
	return h, nil
}

// downscope exchanges a token for one that may do less:
// https://cloud.google.com/iam/docs/downscoping-short-lived-credentials
func (i *Issuer) downscope(ctx context.Context, p plan, whole held) (held, error) {
	options, err := json.Marshal(map[string]jsontext.Value{"accessBoundary": p.boundary})
	if err != nil {
		return held{}, refuse("PARAM_INVALID", publicBoundary)
	}
	r := exchange("downscope", typeAccess, whole.token)
	r.Set("options", string(options))
	h, err := i.exchange(ctx, r, whole, true)
	if err != nil {
		return held{}, failed(err, true, downscoping)
	}
	return h, nil
}

// exchange is a request that has no Authorization header: Google refuses one with it.
func exchange(op, kind string, subject cred.Secret) *tokenapi.Request {
	r := tokenapi.NewRequest(op)
	r.Set("grant_type", grantExchange)
	r.Set("requested_token_type", typeAccess)
	r.Set("subject_token_type", kind)
	r.SetSecret("subject_token", subject)
	return r
}

func (i *Issuer) exchange(ctx context.Context, r *tokenapi.Request, subject held, last bool) (held, error) {
	a, err := i.http.PostPatiently(ctx, i.cfg.STSURL+"/v1/token", r, again(last))
	if err != nil {
		return held{}, err
	}
	t, err := tokenapi.ReadToken(r, a)
	if err != nil {
		return held{}, err
	}
	if !strings.EqualFold(t.Kind, "bearer") || t.Issued != typeAccess {
		return held{}, r.Odd(a, "the answer holds no access token of type Bearer")
	}
	if t.NotAfter.IsZero() { // Google leaves expires_in out of some: then the token ends with the subject's
		t.NotAfter = subject.end
	}
	h := held{token: t.Access, until: t.NotAfter, end: t.NotAfter}
	if subject.until.Before(h.until) {
		h.until = subject.until
	}
	return h, nil
}

// boundaryOf reads a Credential Access Boundary. An empty one is refused: it is not what somebody
// wrote who wants less.
func boundaryOf(params map[string]string) (jsontext.Value, error) {
	text, ok := params[paramBoundary]
	if !ok {
		return nil, nil
	}
	var boundary struct {
		Rules []struct {
			Resource    string         `json:"availableResource"`
			Permissions []string       `json:"availablePermissions"`
			Condition   jsontext.Value `json:"availabilityCondition"`
		} `json:"accessBoundaryRules"`
	}
	err := json.Unmarshal([]byte(text), &boundary, json.RejectUnknownMembers(true))
	if err != nil || len(text) > maxOptions || len(boundary.Rules) == 0 || len(boundary.Rules) > maxRules {
		return nil, refuse("PARAM_INVALID", publicBoundary)
	}
	for _, rule := range boundary.Rules {
		if rule.Resource == "" || len(rule.Permissions) == 0 {
			return nil, refuse("PARAM_INVALID", publicBoundary)
		}
	}
	v := jsontext.Value(text)
	err = v.Compact()
	return v, err
}
