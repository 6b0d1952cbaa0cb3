package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Issue reads the target's path with the token that Reserve made, or with one that it makes now.
// What Vault gives a lease for ends with that token. What it gives none for, such as a key-value
// store's values, can't be revoked, and the lease says so.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	src, err := i.source(ctx, spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	if src.kv() {
		return i.issueKV(ctx, spec, src)
	}
	var c child
	if spec.Handle == "" {
		c, err = i.newChild(ctx, spec, src)
	} else {
		c, err = i.take(spec)
	}
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	return i.fly(ctx, &flight{spec: spec, src: src, child: c})
}

// issueKV reads values that stand, with the issuer's own token.
func (i *Issuer) issueKV(ctx context.Context, spec issuer.Spec, src source) (cred.Credential, cred.Lease, error) {
	if err := checkNotEnded(spec); err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	answer, err := i.asBroker(ctx, src.req)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, kvFailed(err)
	}
	if answer, err = i.unwrapped(ctx, src, answer); err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	data := answerData(answer)
	if src.engine == "kv2" {
		if data, err = kv2Values(src, data); err != nil {
			return cred.Credential{}, cred.Lease{}, err
		}
	}
	c, err := src.credential(data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	l := cred.Lease{NotAfter: spec.NotAfter, Note: "the value is stored in Vault and stays valid; nothing ends it"}
	return c, i.joined(ctx, c, l), nil
}

// kv2Values takes the values out of an answer of a version 2 store, and makes sure that they are of
// the version that the target pins.
func kv2Values(src source, data map[string]any) (map[string]any, error) {
	about, _ := data["metadata"].(map[string]any)
	pinned, _ := strconv.ParseInt(src.want.Params[paramVersion], 10, 64)
	if got := number(about["version"]); pinned > 0 && got != pinned {
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "vault.issue", Reason: "SOURCE_REFUSED", Public: publicRefused,
			Err: fmt.Errorf("vault: version %d was asked for and %d came", pinned, got),
		}
	}
	values, _ := data["data"].(map[string]any)
	return values, nil
}

// kvFailed turns the failure to read a value into our error: reading makes nothing.
func kvFailed(err error) error {
	if s := statusOf(err); s == 400 || s == 404 || s == 405 {
		return minting("vault.issue", err)
	}
	return harmless("vault.issue", err)
}

// mint sends the one request that makes a credential. It is repeated, while the caller waits, only
// where it surely had no effect.
func (i *Issuer) mint(ctx context.Context, f *flight) (cred.Credential, cred.Lease, error) {
	spec, src, c := f.spec, f.src, f.child
	src.req.token = c.token
	var asked time.Time
	answer, err := retrying(f.wait, undone, func() (*api.Secret, error) {
		asked = time.Now()
		return i.client.doWithin(ctx, mintTimeout, src.req)
	})
	if err == nil && !ownWord(answer) {
		err = &callError{op: src.req.method + " " + src.req.path, err: &strangerError{http.StatusOK}}
	}
	if err != nil {
		err = minting("vault.issue", err)
		if cred.KindOf(err) == cred.Invalid || errors.Is(err, issuer.ErrNotIssued) {
			i.discard(ctx, c.handle)
		}
		return cred.Credential{}, cred.Lease{}, err
	}
	if answer, err = i.unwrapped(ctx, src, answer); err != nil {
		i.discard(ctx, c.handle) // whoever has it loses it; the broker, told that it may exist, makes sure
		return cred.Credential{}, cred.Lease{}, err
	}
	if answer == nil || answer.LeaseID == "" {
		i.discard(ctx, c.handle)
		made, lease, err := withoutLease(spec, src, answer, asked)
		if err != nil {
			return cred.Credential{}, cred.Lease{}, err
		}
		return made, i.joined(ctx, made, lease), nil
	}
	c.handle.Lease = answer.LeaseID
	made, err := src.credential(answer.Data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, i.undo(ctx, c.handle, answer.Data, err)
	}
	made, lease := leased(spec, c, made, answer, asked)
	return made, i.joined(ctx, made, lease), nil
}

// leased says what the lease is: it ends with Vault's lease or with the child, whichever is first.
func leased(spec issuer.Spec, c child, made cred.Credential, answer *api.Secret, asked time.Time) (cred.Credential, cred.Lease) {
	end := asked.Add(time.Duration(answer.LeaseDuration) * time.Second)
	if note := outlives(answer.Data); note != "" {
		made.NotAfter = tokenEnd(answer.Data, end)
		lease := standing(made.NotAfter, spec.NotAfter, note)
		c.handle.Stands = true
		lease.Handle = c.handle.String() // by which it is known in Vault's list
		return made, lease
	}
	if answer.LeaseDuration == 0 || end.After(c.end) {
		end = c.end
	}
	made.NotAfter = end
	return made, cred.Lease{
		Handle: c.handle.String(), Revocable: true, Renewable: answer.Renewable && c.end.Sub(end) >= minGain, NotAfter: end, Note: c.note,
	}
}

// discard ends a child that nothing hangs on. It ends by itself too, so a failure is no matter.
func (i *Issuer) discard(ctx context.Context, h handle) { _ = i.revokeToken(ctx, h.Accessor) }

// undo takes back a credential that can't be used, of which Vault sent some data.
func (i *Issuer) undo(ctx context.Context, h handle, data map[string]any, why error) error {
	if err := i.revokeBoth(ctx, h); err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "vault.issue", Public: publicLost, Err: errors.Join(why, err)}
	}
	if outlives(data) != "" {
		return madeForNobody(why)
	}
	return why
}

// madeForNobody is the error for something that was made, can't be used and can't be taken back: of kind
// Unavailable, since every other one promises that nothing was made.
func madeForNobody(why error) error {
	e := &cred.Error{Kind: cred.Unavailable, Op: "vault.issue", Public: publicLost, Err: why}
	if made, ok := errors.AsType[*cred.Error](why); ok {
		e.Reason = made.Reason
		e.Public = made.Public + "; what Vault made all the same can't be ended before its own end"
	}
	return e
}

func answerData(answer *api.Secret) map[string]any {
	if answer == nil {
		return nil
	}
	return answer.Data
}

func orType(t, fallback cred.CredentialType) cred.CredentialType {
	if t == "" {
		return fallback
	}
	return t
}
