package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/cred"
)

// askGivenUp is how long a lease may take to end until Vault is asked whether it has given up on it:
// one of the pauses of awaitEnded.
const askGivenUp = 80 * time.Millisecond

// lookups is how many leases are looked at side by side.
const lookups = 8

// Revoke ends a credential. With Vault's lease ID in the handle it asks Vault to end the lease while
// we wait, then ends the lease's token. With a handle of Reserve alone, as after a crash, it ends
// the token, which makes Vault end that token's leases in the background, and then watches the
// leases of the path until none is left that has passed its end.
//
// It fails with kind Unavailable where the end is not confirmed in time, and may then be repeated; with
// kind Invalid and the reason LEASE_IRREVOCABLE where Vault has given up on ending the lease; and with kind
// Invalid and the reason NOT_REVOCABLE where something may live that ends with no lease, as a certificate
// of which no answer came. An issuer.LivesError tells how long.
func (i *Issuer) Revoke(ctx context.Context, l cred.Lease) error {
	if l.Handle == "" {
		return errStands
	}
	h, err := parseHandle(l.Handle)
	if err != nil {
		return err
	}
	if h.Stands {
		return errStands
	}
	return h.livesOn(i.revoke(ctx, h))
}

func (i *Issuer) revoke(ctx context.Context, h handle) error {
	if err := i.awaitLanding(ctx, h.Accessor); err != nil {
		return err
	}
	leave, err := i.calm.use(ctx, h.Path)
	if err != nil {
		return err
	}
	defer leave()
	release, err := i.alone(ctx, h.Accessor)
	if err != nil {
		return revokeFailed(err)
	}
	defer release()
	unspent := i.forget(h)
	if h.Lease != "" {
		return i.revokeBoth(ctx, h)
	}
	if err := i.revokeToken(ctx, h.Accessor); err != nil || unspent {
		return err
	}
	if err := i.awaitEnded(ctx, h.Path); err != nil {
		return err
	}
	if !endsWithToken(h.Engine, h.Path) {
		return h.errMayLive()
	}
	return nil
}

var errStands = &cred.Error{
	Kind: cred.Invalid, Op: "vault.revoke", Reason: "NOT_REVOCABLE",
	Public: "this credential can't be ended before its own end; replace the secret in Vault if it must end now",
}

// forget drops the token of a reservation, so that Issue can't use it any more, and reports whether
// it was still there: then nothing was minted with it.
func (i *Issuer) forget(h handle) (unspent bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, unspent = i.children[h.Accessor]
	delete(i.children, h.Accessor)
	return unspent
}

// revokeBoth ends a lease and then its token. The token is ended even if the lease can't be, since
// Vault then keeps trying by itself.
func (i *Issuer) revokeBoth(ctx context.Context, h handle) error {
	err := i.confirmed(ctx, request{method: "POST", path: "sys/leases/revoke", body: map[string]any{"lease_id": h.Lease, "sync": true}})
	tokenErr := i.revokeToken(ctx, h.Accessor)
	if err == nil {
		return tokenErr
	}
	if up := i.givenUp(ctx, "this credential", []string{h.Lease}); up != nil {
		return up
	}
	return revokeFailed(err)
}

// revokeToken ends a lease's token. Vault answers 200 with a warning for an accessor that it does
// not know, older ones 400 or 404; all of them mean that it is gone.
func (i *Issuer) revokeToken(ctx context.Context, accessor string) error {
	err := i.confirmed(ctx, request{method: "POST", path: "auth/token/revoke-accessor", body: map[string]any{"accessor": accessor}})
	if s := statusOf(err); err == nil || s == 400 || s == 404 {
		return nil
	}
	return revokeFailed(err)
}

// confirmed makes a request that ends something, and takes nothing but Vault's own word for success: an
// answer without a body, or one with warnings.
func (i *Issuer) confirmed(ctx context.Context, r request) error {
	answer, err := i.asBroker(ctx, r)
	if err == nil && !ownWord(answer) {
		return &callError{op: r.method + " " + r.path, err: &strangerError{http.StatusOK}}
	}
	return err
}

func revokeFailed(err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	public := "Vault has not confirmed that the credential has ended; the broker tries again"
	if statusOf(err) == 403 {
		public = publicRights
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault.revoke", Public: public, Err: err}
}

// awaitEnded waits until no lease of a path is left that has passed its end but that Vault has not
// yet ended at the source. Vault marks the leases of a token as ended before it answers that the
// token is revoked, so the first list holds all that matter.
func (i *Issuer) awaitEnded(ctx context.Context, path string) error {
	leases, err := i.listLeases(ctx, path)
	if err != nil {
		return revokeFailed(err)
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		if leases, err = i.stillEnding(ctx, leases); err != nil {
			return revokeFailed(err)
		}
		if len(leases) == 0 {
			return nil
		}
		if wait == askGivenUp {
			if err := i.givenUp(ctx, "a credential of this path, perhaps this one", leases); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return revokeFailed(fmt.Errorf("vault: %d leases of %s have ended but are not yet revoked: %w", len(leases), path, ctx.Err()))
		case <-time.After(wait):
		}
	}
}

// stillEnding returns which of some leases are there and past their end.
func (i *Issuer) stillEnding(ctx context.Context, leases []string) ([]string, error) {
	ending := make([]bool, len(leases))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for n, lease := range leases {
		g.Go(func() (err error) {
			ending[n], err = i.isEnding(ctx, lease)
			return err
		})
	}
	err := g.Wait()
	var left []string
	for n, lease := range leases {
		if ending[n] {
			left = append(left, lease)
		}
	}
	return left, err
}

// isEnding reports whether a lease is past its end. Vault answers 400 for a lease that is no more.
func (i *Issuer) isEnding(ctx context.Context, lease string) (bool, error) {
	answer, err := i.asBroker(ctx, request{method: "POST", path: "sys/leases/lookup", body: map[string]any{"lease_id": lease}})
	if s := statusOf(err); s == 400 || s == 404 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if answerData(answer)["ttl"] == nil {
		return false, &callError{op: "POST sys/leases/lookup", err: &strangerError{http.StatusOK}}
	}
	return answer.Data["expire_time"] != nil && number(answer.Data["ttl"]) <= 0, nil
}
