package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// minGain is what a renewal must add to be one. Vault tells a lease's life in whole seconds.
const minGain = time.Second

// Renew lets Vault's lease live until an instant, at most until the end of the lease's own token, which
// was fixed when the grant was, and returns the end that it has by our clock, rather early than late.
// Vault may stop it earlier: at the max_ttl of the role or the mount. It never makes a lease shorter: what
// lives until then by l.NotAfter is not asked for, as Vault would take that for the new end.
//
// The error is Invalid where the lease can't be renewed (NOT_RENEWABLE), is at its maximum already
// (MAX_TTL_REACHED) or is over (ENDED), NotFound where Vault does not know it, Unavailable else. With
// Unavailable it may have been renewed; asking again is harmless.
//
// See https://developer.hashicorp.com/vault/api-docs/system/leases#renew-lease.
func (i *Issuer) Renew(ctx context.Context, l cred.Lease, until time.Time) (time.Time, error) {
	h, err := renewable(l)
	if err != nil {
		return time.Time{}, err
	}
	if !l.NotAfter.IsZero() && !until.After(l.NotAfter) {
		return l.NotAfter, nil
	}
	want := until
	if end := time.Unix(h.End, 0); end.Before(until) {
		want = end
	}
	leave, err := i.calm.use(ctx, h.Path)
	if err != nil {
		return time.Time{}, err
	}
	defer leave()
	release, err := i.alone(ctx, h.Accessor)
	if err != nil {
		return time.Time{}, renewFailed(err)
	}
	defer release()
	end, err := i.extend(ctx, h, want)
	if err != nil {
		return time.Time{}, i.notRenewed(ctx, h, err)
	}
	if end.Before(l.NotAfter.Add(minGain)) && end.Before(want.Add(-2*minGain)) {
		return time.Time{}, notRenewable("MAX_TTL_REACHED", "Vault lets this credential live no longer: the max_ttl of its role or mount is reached", fmt.Errorf("vault: the lease ended at %v and now ends at %v", l.NotAfter, end))
	}
	return end, nil
}

// renewable returns the handle of a lease that may be renewed.
func renewable(l cred.Lease) (handle, error) {
	const public = "this credential can't be renewed; ask for a new one"
	if l.Handle == "" {
		return handle{}, notRenewable("NOT_RENEWABLE", public, errors.New("vault: there is no lease"))
	}
	h, err := parseHandle(l.Handle)
	if err == nil && (h.Lease == "" || h.End == 0 || h.Stands) {
		err = notRenewable("NOT_RENEWABLE", public, errors.New("vault: the handle lacks the lease or its token's end, or renewing that changes nothing"))
	}
	return h, err
}

// extend asks Vault for a lease's new end. The increment counts from when Vault gets the request, in
// whole seconds; zero would be the role's default.
func (i *Issuer) extend(ctx context.Context, h handle, want time.Time) (time.Time, error) {
	if time.Until(want) < time.Second {
		return time.Time{}, notRenewable("ENDED", "less than a second is left of what was granted", errors.New("vault: nothing left to renew for"))
	}
	var asked time.Time
	answer, err := i.asBroker(ctx, request{method: "POST", path: "sys/leases/renew", remake: func() map[string]any {
		asked = time.Now()
		return map[string]any{"lease_id": h.Lease, "increment": max(int64(want.Sub(asked)/time.Second), 1)}
	}})
	if err != nil {
		return time.Time{}, err
	}
	if answer == nil || answer.LeaseDuration <= 0 {
		return time.Time{}, &callError{op: "POST sys/leases/renew", err: errors.New("the answer tells no duration")}
	}
	end := asked.Add(time.Duration(answer.LeaseDuration) * time.Second)
	if end.After(want) { // the engine ignores the increment; the lease's token still ends it
		end = want
	}
	return end, nil
}

// notRenewed says why a lease was not renewed. Vault answers 400 for one that it does not know, for one
// that is over or not renewable, and where the engine's source failed; a look at the lease tells them
// apart.
func (i *Issuer) notRenewed(ctx context.Context, h handle, err error) error {
	if s := statusOf(err); s != 400 && s != 404 {
		return renewFailed(err)
	}
	answer, lookErr := i.asBroker(ctx, request{method: "POST", path: "sys/leases/lookup", body: map[string]any{"lease_id": h.Lease}})
	about := answerData(answer)
	can, _ := about["renewable"].(bool)
	switch s := statusOf(lookErr); {
	case s == 400 || s == 404:
		return &cred.Error{
			Kind: cred.NotFound, Op: "vault.renew", Reason: "LEASE_UNKNOWN",
			Public: "Vault does not know this lease: it has ended or was revoked; ask for a new credential", Err: err,
		}
	case lookErr != nil:
		return renewFailed(lookErr)
	case number(about["ttl"]) <= 0 || !can:
		return notRenewable("NOT_RENEWABLE", "this credential can't be renewed (any more); ask for a new one", err)
	}
	return renewFailed(err)
}

func notRenewable(reason, public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "vault.renew", Reason: reason, Public: public, Err: err}
}

func renewFailed(err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	public := "Vault has not confirmed that the credential was renewed; the broker tries again until its end"
	if statusOf(err) == 403 {
		public = publicRights
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault.renew", Public: public, RetryAfter: retryAfter(err), Err: err}
}
