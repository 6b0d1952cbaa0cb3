package gcp

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const opIssue = "gcp.issue"

// The parameters of a target, besides those that all token endpoints have.
const (
	paramDelegates = "delegates" // service accounts between the federated identity and the last one, separated by spaces
	paramBoundary  = "boundary"  // a Credential Access Boundary, as JSON
)

var params = []string{tokenapi.ParamScope, tokenapi.ParamDefaultScope, tokenapi.ParamUsername, paramDelegates, paramBoundary}

// accountName is a service account by its e-mail address or its number.
var accountName = regexp.MustCompile(`^(?:[0-9]{1,32}|[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,189})$`)

// plan is what a lease asks for, worked out before anything is asked.
type plan struct {
	grant     cred.GrantID
	scopes    []string
	account   string // empty: the federated token itself is given out
	delegates []string
	boundary  jsontext.Value // nil: none
	notAfter  time.Time
	longest   time.Duration // that it may live
	shape     func(access cred.Secret) cred.Credential
}

// held is a token on its way.
type held struct {
	token cred.Secret
	// until is how long the token serves at least, end the instant at which it has ended for sure. They
	// differ where Google names a later end than the ID token had that a federated token ends with.
	until, end time.Time
}

// Issue mints a token of the target's service account, or the federated identity's own, with the grant's
// scopes and for as long as the grant lasts.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	p, err := i.plan(spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	h, err := i.mint(ctx, p)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	c := p.shape(h.token)
	c.NotAfter = h.until
	return c, cred.Lease{NotAfter: h.end, Note: endNote(h, spec.NotAfter)}, nil
}

func (i *Issuer) plan(spec issuer.Spec) (plan, error) {
	from := spec.Target.Credential
	longest := i.cfg.MaxLife
	if from.Path == "" {
		longest = hour
	}
	p := plan{
		grant: spec.Grant, account: from.Path, delegates: strings.Fields(from.Params[paramDelegates]),
		notAfter: spec.NotAfter, longest: longest,
	}
	if time.Until(p.notAfter) < time.Second {
		return plan{}, refuse("ENDED", "nothing is left of what was granted; ask for a new grant")
	}
	if err := p.checkAccounts(); err != nil {
		return plan{}, err
	}
	err := tokenapi.CheckParams(opIssue, from.Params, params)
	if err == nil {
		p.scopes, err = tokenapi.Scopes(opIssue, spec.Scopes, from.Params)
	}
	if err == nil {
		p.boundary, err = boundaryOf(from.Params)
	}
	if err == nil {
		p.shape, err = tokenapi.Shape(opIssue, from)
	}
	return p, err
}

// life is how long a token may live that is made now, in whole seconds and one at the least.
func (p *plan) life() time.Duration {
	return min(max(time.Until(p.notAfter).Truncate(time.Second), time.Second), p.longest)
}

func (p *plan) checkAccounts() error {
	if p.account == "" && len(p.delegates) > 0 {
		return refuse("PARAM_INVALID", "the target has delegates, but its path names no service account that they lead to")
	}
	for _, name := range append(p.delegates[:len(p.delegates):len(p.delegates)], p.account) {
		if name != "" && !accountName.MatchString(name) {
			return refuse("PARAM_INVALID", "the target's path and its delegates must be service accounts, such as NAME@PROJECT.iam.gserviceaccount.com")
		}
	}
	return nil
}

// mint takes the steps to the token. Whatever becomes of the first ones, nobody gets to see it: only the
// last leaves open whether the lease's token was made.
func (i *Issuer) mint(ctx context.Context, p plan) (held, error) {
	subject, err := i.sign(ctx, p)
	if err != nil {
		return held{}, err
	}
	h, err := i.federate(ctx, p, subject)
	if err == nil && p.account != "" {
		h, err = i.impersonate(ctx, p, h)
	}
	if err == nil && p.boundary != nil {
		h, err = i.downscope(ctx, p, h)
	}
	return h, err
}

// endNote tells what ends a token.
func endNote(h held, asked time.Time) string {
	note := "Google can't revoke this token: it is valid until its own end"
	if h.end.After(asked) {
		note += ", which is later than was asked"
	}
	if h.until.Before(h.end) {
		note += "; it may end earlier, with the ID token that it was made from"
	}
	return note
}
