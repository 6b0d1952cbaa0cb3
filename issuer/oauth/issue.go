package oauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target, besides those that all token endpoints have.
const (
	paramAudience = "audience" // RFC 8693, section 2.1, and vendors' client_credentials; several, separated by spaces
	paramResource = "resource" // RFC 8707; the same
)

var params = []string{tokenapi.ParamScope, tokenapi.ParamDefaultScope, paramAudience, paramResource, tokenapi.ParamUsername}

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
		return cred.Credential{}, cred.Lease{}, issuer.NotIssued("oauth.issue", "", publicGone, ctx.Err())
	}
	outcomes, left := make(chan outcome), make(chan struct{})
	if !i.flying.Go(func() { i.fly(p, outcomes, left) }) {
		return cred.Credential{}, cred.Lease{}, issuer.NotIssued("oauth.issue", "", publicClosed, errors.New("oauth: closed"))
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
	if err := tokenapi.CheckParams("oauth.issue", from.Params, params); err != nil {
		return plan{}, err
	}
	scopes, err := i.cfg.scopesOf(spec.Scopes, from.Params)
	if err != nil {
		return plan{}, err
	}
	shape, err := tokenapi.Shape("oauth.issue", from)
	return plan{spec, scopes, shape}, err
}

// outcome is what Issue returns.
type outcome struct {
	credential cred.Credential
	lease      cred.Lease
	err        error
}

// fly mints and hands over, or takes back what nobody waits for any more.
func (i *Issuer) fly(p plan, outcomes chan<- outcome, left <-chan struct{}) {
	var o outcome
	if i.owner != nil {
		o = i.refresh(p, left)
	} else if t, err := i.ask(i.flying.Life(), p, nil); err != nil {
		o.err = err
	} else {
		o = i.handOut(p, t)
	}
	select {
	case outcomes <- o:
	case <-left:
		if o.err == nil && o.lease.Revocable {
			_ = i.Revoke(i.flying.Life(), o.lease) // the broker was told that a token may exist
		}
	}
}

// ask asks for a token. The edit, where there is one, completes the request.
func (i *Issuer) ask(ctx context.Context, p plan, edit func(*tokenapi.Request)) (tokenapi.Token, error) {
	r, err := i.tokenRequest(ctx, p)
	if err != nil {
		return tokenapi.Token{}, err
	}
	if edit != nil {
		edit(r)
	}
	a, err := i.http.Post(ctx, i.cfg.TokenURL, r)
	if err != nil {
		return tokenapi.Token{}, minting(i.cfg.Grant, err)
	}
	t, err := tokenapi.ReadToken(r, a)
	if err != nil {
		return tokenapi.Token{}, minting(i.cfg.Grant, err)
	}
	return t, nil
}

func (i *Issuer) tokenRequest(ctx context.Context, p plan) (*tokenapi.Request, error) {
	r := i.cfg.request("token")
	for name, value := range i.cfg.Extra {
		r.Set(name, value)
	}
	r.Set("grant_type", string(i.cfg.Grant))
	if len(p.scopes) > 0 {
		r.Set("scope", strings.Join(p.scopes, " "))
	}
	for _, name := range []string{paramAudience, paramResource} {
		values := strings.Fields(p.spec.Target.Credential.Params[name])
		if len(values) > 1 && r.JSON {
			return nil, refuse("PARAM_INVALID", fmt.Sprintf("this issuer can send one %s and no more", name))
		}
		if len(values) > 0 {
			r.Params[name] = values
		}
	}
	if err := i.showSubject(ctx, r, p.spec); err != nil {
		return nil, err
	}
	return r, i.cfg.Client.authenticate(ctx, r, p.spec)
}

// showSubject puts the broker's own ID token where the grant wants it.
func (i *Issuer) showSubject(ctx context.Context, r *tokenapi.Request, about issuer.Spec) error {
	if i.cfg.Grant != TokenExchange && i.cfg.Grant != JWTBearer {
		return nil
	}
	subject, err := i.cfg.Subject(ctx, i.cfg.Audience, about)
	if err != nil {
		return issuer.NotIssued("oauth.subject", "", publicSecret, err)
	}
	if i.cfg.Grant == JWTBearer {
		r.SetSecret("assertion", subject)
		return nil
	}
	r.SetSecret("subject_token", subject)
	r.Set("subject_token_type", i.cfg.SubjectType)
	if i.cfg.RequestedType != "" {
		r.Set("requested_token_type", i.cfg.RequestedType)
	}
	return nil
}
