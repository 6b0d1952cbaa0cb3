package aws

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

const (
	minToken = 4     // characters of WebIdentityToken
	maxToken = 20000 // the same
	// margin is taken off a session's life, so that it has ended by the grant's end although AWS counts
	// from when it answers.
	margin = 5 * time.Second
	// maxSkew is how far the end of a session may be from what was asked for, and how far the broker's
	// clock may be from AWS', which refuses signatures from there on.
	maxSkew = 5 * time.Minute
)

// Issue takes the target's role and returns the session's credentials. A session whose end or role is not
// what was asked for is thrown away.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	p, err := i.cfg.plan(spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	var life time.Duration
	a, err := i.sts.call(ctx, func(ctx context.Context) (*query, error) {
		life = i.cfg.life(time.Until(spec.NotAfter))
		return i.assume(ctx, p, life)
	})
	if err != nil {
		return cred.Credential{}, cred.Lease{}, minting(life, err)
	}
	s, err := readSession(a.body)
	if err == nil {
		err = s.fits(p, life)
	}
	if err != nil {
		return cred.Credential{}, cred.Lease{}, lost(publicOdd, fmt.Errorf("aws: request %s: %w", a.requestID, err))
	}
	if off := s.expiration.Sub(time.Now().Add(life)); off.Abs() > maxSkew {
		return cred.Credential{}, cred.Lease{}, lost(publicSkewed, fmt.Errorf("aws: the session ends %v from what was asked for", off))
	}
	c := s.credential()
	if p.ending && spec.NotAfter.Before(c.NotAfter) {
		c.NotAfter = spec.NotAfter // it is of no use after that
	}
	return c, p.lease(s.expiration), nil
}

// life is how long a session shall live of a grant of which so much is left.
func (cfg *Config) life(left time.Duration) time.Duration {
	return min(max((left-margin).Truncate(time.Second), minLife), cfg.MaxDuration)
}

// assume is the request. It is not signed: the ID token is what it shows.
func (i *Issuer) assume(ctx context.Context, p plan, life time.Duration) (*query, error) {
	token, err := i.idToken(ctx, p.claims)
	if err != nil {
		return nil, err
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {stsVersion},
		"RoleArn": {p.role}, "RoleSessionName": {p.session}, "WebIdentityToken": {token.RevealString()},
		"DurationSeconds": {strconv.Itoa(int(life / time.Second))},
	}
	if p.policy != "" {
		form.Set("Policy", p.policy)
	}
	for n, arn := range p.policyARNs {
		form.Set("PolicyArns.member."+strconv.Itoa(n+1)+".arn", arn)
	}
	return &query{op: "AssumeRoleWithWebIdentity", form: form, secret: token}, nil
}

func (i *Issuer) idToken(ctx context.Context, claims map[string]any) (cred.Secret, error) {
	token, err := i.cfg.Source(ctx, i.cfg.Audience, claims)
	if err != nil {
		return cred.Secret{}, issuer.NotIssued("aws.issue", "", publicNoToken, err)
	}
	if n := len(token.Reveal()); n < minToken || n > maxToken {
		return cred.Secret{}, &cred.Error{
			Kind: cred.Invalid, Op: "aws.issue", Reason: "TOKEN_TOO_LONG", Public: publicLength,
			Err: fmt.Errorf("aws: the ID token has %d characters", n),
		}
	}
	return token, nil
}

// lease says what a session is. Its end is AWS' word.
func (p *plan) lease(end time.Time) cred.Lease {
	l := cred.Lease{NotAfter: end, Note: "AWS ends no session early: this credential works until its own end"}
	asked := p.spec.NotAfter
	switch beyond := end.Sub(asked).Round(time.Second); {
	case end.After(asked) && p.ending:
		l.Note = fmt.Sprintf("AWS ends no session early and makes none shorter than 15 minutes: this one ends %v after its grant, and its session policy lets it do nothing from the grant's end on", beyond)
	case end.After(asked):
		l.Note += fmt.Sprintf(", %v after its grant's", beyond)
	case beyond < -2*margin:
		l.Note += fmt.Sprintf(", %v before its grant's, since the issuer asks for no longer sessions", -beyond)
	}
	return l
}

// Revoke refuses: AWS has no way to end one session.
func (i *Issuer) Revoke(context.Context, cred.Lease) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "aws.revoke", Reason: "NOT_REVOCABLE", Public: publicNotRevocable,
		Err: errors.New("aws: sessions can't be revoked"),
	}
}
