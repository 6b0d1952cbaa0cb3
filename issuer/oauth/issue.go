package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target.
const (
	paramScope        = "scope"         // the scopes that a grant may name, separated by spaces; empty: those of the rule
	paramDefaultScope = "default_scope" // those of a grant that names none
	paramAudience     = "audience"      // RFC 8693, section 2.1, and vendors' client_credentials; several, separated by spaces
	paramResource     = "resource"      // RFC 8707; the same
	paramUsername     = "username"      // of a credential of type user_password, whose password is the token
)

var params = []string{paramScope, paramDefaultScope, paramAudience, paramResource, paramUsername}

// plan is what a lease asks for, worked out before anything is asked.
type plan struct {
	spec   issuer.Spec
	scopes []string
	shape  func(access cred.Secret) cred.Credential
}

// Issue asks for a token with the grant's scopes. An answer with more than was asked is refused, and
// revoked where the server can.
//
// The request does not end with its caller: what comes of it after the caller has left is taken back,
// and a refresh token that comes with it is kept.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	p, err := i.plan(spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	if ctx.Err() != nil {
		return cred.Credential{}, cred.Lease{}, notIssued("oauth.issue", publicGone, ctx.Err())
	}
	outcomes, left := make(chan outcome), make(chan struct{})
	if !i.takeOff(func() { i.fly(p, outcomes, left) }) {
		return cred.Credential{}, cred.Lease{}, notIssued("oauth.issue", publicClosed, errors.New("oauth: closed"))
	}
	select {
	case o := <-outcomes:
		return o.credential, o.lease, o.err
	case <-ctx.Done():
		close(left)
		return cred.Credential{}, cred.Lease{}, errLeft(ctx)
	}
}

func (i *Issuer) plan(spec issuer.Spec) (plan, error) {
	from := spec.Target.Credential
	if !time.Now().Before(spec.NotAfter) {
		return plan{}, refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	for name := range from.Params {
		if !slices.Contains(params, name) {
			return plan{}, refuse("PARAM_UNKNOWN", fmt.Sprintf("the target has the parameter %q, which its issuer does not know", name))
		}
	}
	scopes, err := i.cfg.scopesOf(spec.Scopes, from.Params)
	if err != nil {
		return plan{}, err
	}
	shape, err := shapeOf(from)
	return plan{spec, scopes, shape}, err
}

// shapeOf says what is made of an access token: a bearer token, or the password of a fixed user.
func shapeOf(from cred.CredentialSource) (func(cred.Secret) cred.Credential, error) {
	name, fixed := "token", map[string]cred.Secret{}
	switch from.Type {
	case "", cred.Bearer:
	case cred.UserPassword:
		if from.Params[paramUsername] == "" {
			return nil, refuse("FIELD_MISSING", `a target of type user_password needs the parameter "username" here: a token has none`)
		}
		name, fixed["username"] = "password", cred.SecretString(from.Params[paramUsername])
	default:
		return nil, refuse("FIELD_MISSING", fmt.Sprintf("a token can't make a credential of type %s; the target's type must be bearer or user_password", from.Type))
	}
	for ours, theirs := range from.Fields {
		if theirs != "access_token" {
			return nil, refuse("FIELD_MISSING", fmt.Sprintf("a token answer has no field %q for the target; it has access_token", theirs))
		}
		name = ours
	}
	kind := from.Type
	if kind == "" {
		kind = cred.Bearer
	}
	return func(access cred.Secret) cred.Credential {
		c := cred.Credential{Type: kind, Fields: map[string]cred.Secret{name: access}}
		for n, v := range fixed {
			c.Fields[n] = v
		}
		return c
	}, nil
}

// outcome is what Issue returns.
type outcome struct {
	credential cred.Credential
	lease      cred.Lease
	err        error
}

func (i *Issuer) takeOff(fn func()) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.flying.Go(fn)
	}
	return !i.closed
}

// fly mints and hands over, or takes back what nobody waits for any more.
func (i *Issuer) fly(p plan, outcomes chan<- outcome, left <-chan struct{}) {
	var o outcome
	if i.owner != nil {
		o = i.refresh(p, left)
	} else if t, err := i.ask(i.life, p, nil); err != nil {
		o.err = err
	} else {
		o = i.handOut(p, t)
	}
	select {
	case outcomes <- o:
	case <-left:
		if o.err == nil && o.lease.Revocable {
			_ = i.Revoke(i.life, o.lease) // the broker was told that a token may exist
		}
	}
}

// ask asks for a token. The edit, where there is one, completes the request.
func (i *Issuer) ask(ctx context.Context, p plan, edit func(*request)) (token, error) {
	r, err := i.tokenRequest(ctx, p)
	if err != nil {
		return token{}, err
	}
	if edit != nil {
		edit(r)
	}
	asked := time.Now()
	a, err := i.send(ctx, i.cfg.TokenURL, r)
	if err != nil {
		return token{}, minting(i.cfg.Grant, err)
	}
	t, err := readToken(r, a, asked)
	if err != nil {
		return token{}, minting(i.cfg.Grant, err)
	}
	return t, nil
}

func (i *Issuer) tokenRequest(ctx context.Context, p plan) (*request, error) {
	r := i.cfg.request("token")
	for name, value := range i.cfg.Extra {
		r.set(name, value)
	}
	r.set("grant_type", string(i.cfg.Grant))
	if len(p.scopes) > 0 {
		r.set("scope", strings.Join(p.scopes, " "))
	}
	for _, name := range []string{paramAudience, paramResource} {
		values := strings.Fields(p.spec.Target.Credential.Params[name])
		if len(values) > 1 && r.asJSON {
			return nil, refuse("PARAM_INVALID", fmt.Sprintf("this issuer can send one %s and no more", name))
		}
		if len(values) > 0 {
			r.params[name] = values
		}
	}
	if err := i.showSubject(ctx, r, p.spec); err != nil {
		return nil, err
	}
	return r, i.cfg.Client.authenticate(ctx, r, p.spec)
}

// showSubject puts the broker's own ID token where the grant wants it.
func (i *Issuer) showSubject(ctx context.Context, r *request, about issuer.Spec) error {
	if i.cfg.Grant != TokenExchange && i.cfg.Grant != JWTBearer {
		return nil
	}
	subject, err := i.cfg.Subject(ctx, i.cfg.Audience, about)
	if err != nil {
		return notIssued("oauth.subject", publicSecret, err)
	}
	if i.cfg.Grant == JWTBearer {
		r.setSecret("assertion", subject)
		return nil
	}
	r.setSecret("subject_token", subject)
	r.set("subject_token_type", i.cfg.SubjectType)
	if i.cfg.RequestedType != "" {
		r.set("requested_token_type", i.cfg.RequestedType)
	}
	return nil
}
