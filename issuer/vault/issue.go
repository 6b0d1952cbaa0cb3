package vault

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Issue reads the target's path with the token that Reserve made, or with one that it makes now.
// What Vault gives a lease for ends with that token. What it gives none for, such as a key-value
// store's values, can't be revoked, and the lease says so.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	src, err := i.source(ctx, spec.Target.Credential, spec.NotAfter)
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
	data := answerData(answer)
	if src.engine == "kv2" {
		data, _ = data["data"].(map[string]any)
	}
	c, err := credential(spec.Target.Credential, orType(spec.Target.Credential.Type, cred.KV), data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	return c, cred.Lease{NotAfter: spec.NotAfter, Note: "the value is stored in Vault and stays valid; nothing ends it"}, nil
}

// kvFailed turns the failure to read a value into our error: reading makes nothing.
func kvFailed(err error) error {
	if s := statusOf(err); s == 400 || s == 404 || s == 405 {
		return minting("vault.issue", err)
	}
	return harmless("vault.issue", err)
}

// mint sends the one request that makes a credential. It is never repeated.
func (i *Issuer) mint(ctx context.Context, f *flight) (cred.Credential, cred.Lease, error) {
	spec, src, c := f.spec, f.src, f.child
	src.req.token = c.token
	asked := time.Now()
	answer, err := i.client.doWithin(ctx, mintTimeout, src.req)
	if err != nil {
		err = minting("vault.issue", err)
		if cred.KindOf(err) == cred.Invalid || errors.Is(err, issuer.ErrNotIssued) {
			i.discard(ctx, c.handle)
		}
		return cred.Credential{}, cred.Lease{}, err
	}
	if answer == nil || answer.LeaseID == "" {
		i.discard(ctx, c.handle)
		return withoutLease(spec, src, answer)
	}
	c.handle.Lease = answer.LeaseID
	made, err := credential(spec.Target.Credential, spec.Target.Credential.Type, answer.Data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, i.undo(ctx, c.handle, err)
	}
	made, lease := leased(spec, src, c, made, answer, asked)
	return made, lease, nil
}

// leased says what the lease is: it ends with Vault's lease or with the child, whichever is first.
func leased(spec issuer.Spec, src source, c child, made cred.Credential, answer *api.Secret, asked time.Time) (cred.Credential, cred.Lease) {
	end := asked.Add(time.Duration(answer.LeaseDuration) * time.Second)
	if isSTS(src, made) {
		made.NotAfter = end
		return made, standing(end, spec.NotAfter, "AWS keeps STS credentials valid until their own end; nobody can end them earlier")
	}
	if answer.LeaseDuration == 0 || end.After(c.end) {
		end = c.end
	}
	made.NotAfter = end
	return made, cred.Lease{Handle: c.handle.String(), Revocable: true, NotAfter: end, Note: c.note}
}

// isSTS reports whether a credential is one of AWS STS, which revoking its lease does not end
// (Vault's AWS engine makes users of IAM without a session token).
func isSTS(src source, c cred.Credential) bool {
	_, session := c.Fields["session_token"]
	return c.Type == cred.AWS && session && (src.engine == "aws" || src.engine == "")
}

// withoutLease returns what Vault gave out without keeping a lease on it.
func withoutLease(spec issuer.Spec, src source, answer *api.Secret) (cred.Credential, cred.Lease, error) {
	data := answerData(answer)
	c, err := credential(spec.Target.Credential, spec.Target.Credential.Type, data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	if unix := number(data["expiration"]); src.engine == "pki" && unix > 0 {
		c.NotAfter = time.Unix(unix, 0)
		return c, standing(c.NotAfter, spec.NotAfter, "the certificate is valid until its own end; set generate_lease on the PKI role to make it revocable"), nil
	}
	return c, cred.Lease{NotAfter: spec.NotAfter, Note: "Vault keeps no lease on it, so nothing ends it early"}, nil
}

// standing is a lease on something that can't be revoked.
func standing(end, asked time.Time, note string) cred.Lease {
	if end.After(asked) {
		note += ", which is later than was asked"
	}
	return cred.Lease{NotAfter: end, Note: note}
}

// discard ends a child that nothing hangs on. It ends by itself too, so a failure is no matter.
func (i *Issuer) discard(ctx context.Context, h handle) { _ = i.revokeToken(ctx, h.Accessor) }

// undo takes back a credential that can't be used.
func (i *Issuer) undo(ctx context.Context, h handle, why error) error {
	if err := i.revokeBoth(ctx, h); err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "vault.issue", Public: publicLost, Err: errors.Join(why, err)}
	}
	return why
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
