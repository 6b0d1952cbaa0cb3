package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/flights"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	opIssue = "github.issue"
	// gitUser is the user name that goes with a token to git over https.
	gitUser = "x-access-token"
	// tries is how often a token is asked for in all, where none was made.
	tries = 3
)

// Issue makes a token for the repositories and permissions of the target's credential, or for those
// among them that the grant's parameters name. Its own end is GitHub's, an hour from now; it is the
// broker that revokes it when the grant ends.
//
// A token whose answer comes after ctx has ended is revoked, which nobody could do later.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	w, err := wanted(spec.Target.Credential, spec.Params)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	if !time.Now().Before(spec.NotAfter) {
		return cred.Credential{}, cred.Lease{}, &cred.Error{
			Kind: cred.Invalid, Op: opIssue, Reason: "ENDED", Public: "nothing is left of what was granted; ask for a new grant",
		}
	}
	made, err := i.issue(ctx, w)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, minting(err)
	}
	c, l := delivered(spec, made)
	return c, l, nil
}

// delivered says what was made. The credential's end is the token's own, also where the grant ends
// before: a lease that counted as over at the grant's end would not be revoked then.
func delivered(spec issuer.Spec, made minted) (cred.Credential, cred.Lease) {
	c := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": made.token}, NotAfter: made.end}
	if spec.Target.Credential.Type == cred.UserPassword {
		c.Type, c.Fields = cred.UserPassword, map[string]cred.Secret{"username": cred.SecretString(gitUser), "password": made.token}
	}
	l := cred.Lease{Handle: made.handle, Revocable: true, NotAfter: made.end}
	if made.end.After(spec.NotAfter) {
		l.Note = "GitHub's tokens live for an hour; this one is revoked when its grant ends"
	}
	return c, l
}

// issue asks for a token until it gets one or a refusal. It asks again where nothing was made: when
// GitHub limits us for a while that the caller can wait, and when the installation is another one
// than it was.
func (i *Issuer) issue(ctx context.Context, w want) (minted, error) {
	for try := 1; ; try++ {
		at, err := i.installation(ctx, w)
		if err != nil {
			return minted{}, err
		}
		made, err := asApp(ctx, i, func(jwt cred.Secret) (minted, error) {
			return i.fly(ctx, w, tokenapi.Call{
				Method: "POST", Path: fmt.Sprintf("/app/installations/%d/access_tokens", at.ID), Token: jwt, Want: http.StatusCreated,
				Body: tokenRequest{Repositories: w.repositories, Permissions: w.permissions},
			})
		})
		failed := tokenapi.CallOf(err)
		if failed == nil {
			return made, err
		}
		if s := failed.Answer.Status; s == http.StatusNotFound || s == http.StatusForbidden && failed.Limited == 0 {
			i.forget(w.owner)
		}
		again := failed.Answer.Status == http.StatusNotFound && try == 1
		if !again && (failed.Limited == 0 || try == tries || !outbound.Pause(ctx, failed.Limited)) {
			return made, err
		}
	}
}

// fly sends the one request that mints, and returns when it has been answered or ctx has ended. The
// answer is awaited in either case, for no longer than Timeout.
func (i *Issuer) fly(ctx context.Context, w want, r tokenapi.Call) (minted, error) {
	if err := ctx.Err(); err != nil {
		return minted{}, issuer.NotIssued(opIssue, "", publicGone, err)
	}
	life := i.flying.Life()
	made, err := flights.Await(ctx, i.flying.Go,
		func() (minted, error) { return i.mint(life, w, r) },
		func(late minted) { _ = i.revoke(life, late.token) }) // it ends within the hour in any case
	switch {
	case errors.Is(err, flights.ErrClosed):
		return minted{}, issuer.NotIssued(opIssue, "", publicGone, err)
	case errors.Is(err, flights.ErrLeft):
		return minted{}, lost(err)
	}
	return made, err
}

// mint sends the request once and compares what comes back with what was asked. A token that is not
// what was asked, or that can't be revoked later, is revoked now. What it returns was made.
func (i *Issuer) mint(ctx context.Context, w want, r tokenapi.Call) (minted, error) {
	got, err := i.api.Do(ctx, r)
	if err != nil && got.Status/100 != 2 { // another 2xx is not what we asked for either, but may hold a token
		return minted{}, err
	}
	made, unlike := readToken(w, got)
	if made.token.IsZero() {
		return minted{}, lost(errors.Join(err, unlike))
	}
	sealed, sealErr := i.seal(made.token)
	if made.handle = sealed; err == nil && unlike == nil && sealErr == nil {
		return made, nil
	}
	return minted{}, i.undo(ctx, made.token, errors.Join(err, unlike, sealErr))
}

// undo revokes a token that nobody may have.
func (i *Issuer) undo(ctx context.Context, token cred.Secret, why error) error {
	if err := i.revoke(ctx, token); err != nil {
		return lost(fmt.Errorf("github: a token that is not what was asked could not be revoked: %w", errors.Join(why, err)))
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: opIssue, Reason: "SOURCE_GAVE_OTHER",
		Public: "GitHub made another token than was asked, so it was revoked and nobody got it; the broker's operator has to look at it",
		Err:    why,
	}
}
