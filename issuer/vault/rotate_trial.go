package vault

import (
	"context"
	"errors"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// VerifyConfig says how to prove that a root works.
type VerifyConfig struct {
	// Path is what is minted under the root, e.g. "database/creds/orders-ro"; it is revoked at once.
	Path string
	// Params are as in a target's, such as "method".
	Params map[string]string
	// Probe uses what was minted at the place that it is for, such as a login to the database; its
	// errors other than kind Unavailable say that it was refused. Nil: having been minted is proof
	// enough. Without a Path it is called with an empty credential.
	Probe func(ctx context.Context, c cred.Credential) error
}

// trialLife bounds a credential that is minted for a trial, should nobody be able to revoke it.
const trialLife = 5 * time.Minute

// trial mints a credential, uses it and revokes it. An error of kind Unavailable leaves open whether
// the root works; every other one says that it does not.
func (i *Issuer) trial(ctx context.Context, v VerifyConfig, rotation string) error {
	if v.Path == "" {
		return v.probe(ctx, cred.Credential{})
	}
	spec := issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.GrantID(rotation), NotAfter: time.Now().Add(trialLife),
		Target: cred.Target{Name: "rotation", Credential: cred.CredentialSource{Path: v.Path, Params: v.Params}},
	}
	var err error
	if spec.Handle, err = i.Reserve(ctx, spec); err != nil {
		return err
	}
	made, lease, err := i.Issue(ctx, spec)
	switch {
	case err == nil:
		err = v.probe(ctx, made)
	case cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued):
		return err
	}
	return errors.Join(err, i.endTrial(ctx, spec, lease))
}

// endTrial revokes what was minted. What can't be revoked ends by itself.
func (i *Issuer) endTrial(ctx context.Context, spec issuer.Spec, l cred.Lease) error {
	if l.Handle == "" && !l.NotAfter.IsZero() {
		return nil // Vault keeps no lease on it
	}
	if l.Handle == "" {
		l.Handle = spec.Handle
	}
	if err := i.Revoke(ctx, l); cred.KindOf(err) == cred.Unavailable {
		return err
	}
	return nil
}

func (v VerifyConfig) probe(ctx context.Context, c cred.Credential) error {
	if v.Probe == nil {
		return nil
	}
	err := v.Probe(ctx, c)
	if err == nil {
		return nil
	}
	kind := cred.Invalid
	if cred.KindOf(err) == cred.Unavailable || ctx.Err() != nil {
		kind = cred.Unavailable
	}
	return &cred.Error{
		Kind: kind, Op: "vault.probe", Reason: "PROBE_FAILED",
		Public: "what was minted under this root was not accepted where it was tried", Err: err,
	}
}
