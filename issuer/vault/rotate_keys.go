package vault

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

// oneKey tells whether a user has one access key alone, the one that Vault uses. With a second one
// Vault could not make the next: a user has two at the most.
func oneKey(keys []issuer.AccessKey, inUse string) cred.Finding {
	f := cred.Finding{Name: "one access key"}
	switch {
	case len(keys) == 1 && keys[0].ID == inUse && keys[0].Active:
		f.OK, f.Text = true, "the user has the access key "+inUse+" alone, and Vault uses it"
	case len(keys) == 1 && keys[0].ID == inUse:
		f.Text = "the access key " + inUse + " that Vault uses is not active"
	case len(keys) == 1:
		f.Text = "Vault uses the access key " + inUse + " and the user has another one, " + keys[0].ID + "; the keys looked at are not those of Vault's user"
	default:
		f.Text = fmt.Sprintf("the user has %d access keys (%s) and Vault uses %s; it must have that one alone: find out who uses the other one, and delete it", len(keys), keyIDs(keys), inUse)
	}
	return f
}

func keyIDs(keys []issuer.AccessKey) string {
	ids := make([]string, len(keys))
	for n, k := range keys {
		ids[n] = k.ID
	}
	return strings.Join(ids, ",")
}

// endStray ends a key that Vault has made and then could not store, so that nobody knows its secret:
// it stands where the next one has to go. It waits until Vault can't be at work on it any more, and
// leaves alone what was there before the rotation.
func (x *root) endStray(ctx context.Context, k rootKind, r issuer.Rotation) error {
	if !k.accessKey || x.cfg.Keys == nil {
		return nil
	}
	keys, err := x.cfg.Keys.List(ctx)
	if err != nil {
		return err
	}
	known := strings.Split(r.Notes[noteKeys].RevealString(), ",")
	for _, key := range keys {
		if key.ID == r.Old || slices.Contains(known, key.ID) {
			continue
		}
		if age := x.now().Sub(key.Created); age < settleTime {
			return &cred.Error{
				Kind: cred.Unavailable, Op: "vault.rotate", Reason: "MAY_BE_AT_WORK", RetryAfter: settleTime - age,
				Public: "AWS has made the access key " + key.ID + ", and Vault may still be about to take it into use; the broker looks again",
			}
		}
		if err := x.stillUses(ctx, k, r.Old); err != nil {
			return err
		}
		if err := x.cfg.Keys.Delete(ctx, key.ID); err != nil {
			return err
		}
	}
	return nil
}

// stillUses makes sure, right before a key is deleted, that Vault does not use it.
func (x *root) stillUses(ctx context.Context, k rootKind, old string) error {
	now, err := x.inUse(ctx, k)
	if err == nil && now != old {
		err = &cred.Error{Kind: cred.Unavailable, Op: "vault.rotate", Reason: "MAY_BE_AT_WORK", RetryAfter: time.Second, Public: "Vault has just changed its access key; the broker looks again"}
	}
	return err
}

// endOldKey makes sure that the old key is gone. Vault deletes it last, and so leaves it where that
// fails.
func (x *root) endOldKey(ctx context.Context, r issuer.Rotation) error {
	if x.cfg.Keys == nil {
		if r.Notes[noteSwitched].RevealString() == "answer" { // which Vault gives when it has deleted it
			return nil
		}
		return &cred.Error{
			Kind: cred.Pending, Op: "vault.rotate", Reason: issuer.ReasonPersonNeeded,
			Public: "Vault may have left the old access key " + r.Old + " behind; give the broker the right to look after the user's keys, which ends this wait, and until then delete that key by hand",
		}
	}
	if r.Old == "" {
		return nil
	}
	keys, err := x.cfg.Keys.List(ctx)
	if err != nil {
		return err
	}
	if !hasKey(keys, r.Old) {
		return nil
	}
	if err := x.cfg.Keys.Delete(ctx, r.Old); err != nil {
		return err
	}
	if keys, err = x.cfg.Keys.List(ctx); err == nil && hasKey(keys, r.Old) {
		err = &cred.Error{Kind: cred.Unavailable, Op: "vault.rotate", Public: "AWS still lists the old access key; the broker looks again", Err: errors.New("vault: the deleted key is listed")}
	}
	return err
}

func hasKey(keys []issuer.AccessKey, id string) bool {
	return slices.ContainsFunc(keys, func(k issuer.AccessKey) bool { return k.ID == id })
}
