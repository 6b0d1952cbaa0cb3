package azure

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	opIssue = "azure.issue"

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, section 2.2
	assertionLife = 5 * time.Minute                                          // it is spent at once

	// allOfResource ends the one kind of scope that an application can ask for:
	// https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope
	allOfResource = "/.default"
)

// params are those that a target may have.
var params = []string{tokenapi.ParamScope, tokenapi.ParamDefaultScope, tokenapi.ParamUsername}

// plan is what a lease asks for, worked out before anything is asked.
type plan struct {
	grant       cred.GrantID
	client      string
	scope       string
	correlation string // a UUID
	shape       func(access cred.Secret) cred.Credential
}

// Issue mints a token of the target's application for the grant's one scope.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	p, err := i.plan(spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	t, err := i.mint(ctx, p)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	c := p.shape(t.Access)
	c.NotAfter = t.NotAfter
	note := "Microsoft Entra can't revoke this token: it is valid until its own end"
	if t.NotAfter.After(spec.NotAfter) {
		note += ", which is later than was asked"
	}
	return c, cred.Lease{NotAfter: t.NotAfter, Note: note + "; its correlation ID is " + p.correlation}, nil
}

func (i *Issuer) plan(spec issuer.Spec) (plan, error) {
	from := spec.Target.Credential
	if !time.Now().Before(spec.NotAfter) {
		return plan{}, refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	p := plan{grant: spec.Grant, client: from.Path, correlation: correlationOf(spec.ID)}
	if p.client == "" {
		p.client = i.cfg.ClientID
	}
	if !clientID.MatchString(p.client) {
		return plan{}, refuse("PARAM_INVALID", "the target's path, or its issuer's client_id, must be an application (client) ID, a UUID")
	}
	if err := tokenapi.CheckParams(opIssue, from.Params, params); err != nil {
		return plan{}, err
	}
	scopes, err := tokenapi.Scopes(opIssue, spec.Scopes, from.Params)
	if err != nil {
		return plan{}, err
	}
	if len(scopes) != 1 || !strings.HasSuffix(scopes[0], allOfResource) {
		return plan{}, refuse("SCOPE_INVALID", "a token of Microsoft Entra is for one resource and for all that the application may do there: the scope must be one, such as https://management.azure.com/.default")
	}
	p.scope = scopes[0]
	p.shape, err = tokenapi.Shape(opIssue, from)
	return p, err
}

// correlationOf is the UUID (RFC 9562, version 8) by which Entra's sign-in log knows a lease's request.
func correlationOf(id cred.LeaseID) string {
	h := sha256.Sum256([]byte(id))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// mint sends the request:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential
func (i *Issuer) mint(ctx context.Context, p plan) (tokenapi.Token, error) {
	claims := map[string]any{}
	if p.grant != "" {
		claims["grant"] = string(p.grant)
	}
	assertion, err := i.cfg.Source(ctx, i.cfg.Audience, assertionLife, claims)
	if err != nil {
		return tokenapi.Token{}, issuer.NotIssued(opIssue, "", publicSource, err)
	}
	r := tokenapi.NewRequest("token")
	r.Set("grant_type", "client_credentials")
	r.Set("client_id", p.client)
	r.Set("scope", p.scope)
	r.Set("client_assertion_type", assertionType)
	r.SetSecret("client_assertion", assertion)
	r.Header = map[string]string{"client-request-id": p.correlation}
	a, err := i.http.PostPatiently(ctx, i.cfg.Authority+"/"+i.cfg.Tenant+"/oauth2/v2.0/token", r, tokenapi.Answered)
	if err != nil {
		return tokenapi.Token{}, failed(err)
	}
	t, err := readToken(r, a)
	if err != nil {
		return tokenapi.Token{}, failed(err)
	}
	return t, nil
}

// readToken reads the answer. Its ext_expires_in is no end: it says how long a client may go on with the
// token while Entra is down.
func readToken(r *tokenapi.Request, a tokenapi.Answer) (tokenapi.Token, error) {
	t, err := tokenapi.ReadToken(r, a)
	if err != nil {
		return tokenapi.Token{}, err
	}
	if !strings.EqualFold(t.Kind, "bearer") || t.NotAfter.IsZero() {
		return tokenapi.Token{}, r.Odd(a, "the answer holds no bearer token, or not when it ends")
	}
	return t, nil
}
