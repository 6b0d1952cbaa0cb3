package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// GetRotation returns a rotation, without the notes of its source. For the roles "security" and
// "auditor".
func (b *Broker) GetRotation(ctx context.Context, who cred.Principal, id cred.RotationID) (cred.Rotation, error) {
	if err := b.MayRead(ctx, who, "rotation.get"); err != nil {
		return cred.Rotation{}, err
	}
	r, err := b.rotation(ctx, id)
	return shown(r), err
}

// ListRotations returns rotations, newest first, without the notes of their sources: at most limit,
// where zero means 100, and more than 1000 means 1000. For the roles "security" and "auditor".
func (b *Broker) ListRotations(ctx context.Context, who cred.Principal, limit int) ([]cred.Rotation, error) {
	if err := b.MayRead(ctx, who, "rotation.list"); err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	var out []cred.Rotation
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out = out[:0]
		for r, err := range pastRotations(tx) {
			if err != nil || len(out) == limit {
				return err
			}
			out = append(out, shown(r))
		}
		return nil
	})
	return out, err
}

// ListRoots returns the roots that are configured, in their order. For the roles "security" and
// "auditor".
func (b *Broker) ListRoots(ctx context.Context, who cred.Principal) ([]RootStatus, error) {
	if err := b.MayRead(ctx, who, "root.list"); err != nil {
		return nil, err
	}
	past, err := b.lastRotations(ctx)
	if err != nil {
		return nil, err
	}
	var out []RootStatus
	for _, root := range b.cfg.Roots {
		s := RootStatus{Name: root.Name, Issuer: root.Issuer, Targets: b.targetsOf(root), DueAt: dueAfter(root, past[root.Name])}
		if last := past[root.Name].newest; last != nil {
			r := shown(*last)
			s.Last = &r
		}
		out = append(out, s)
	}
	return out, nil
}

// WaitRotation calls send with a rotation as it stands, again each time it changes, and returns once it
// is over. For the roles "security" and "auditor".
func (b *Broker) WaitRotation(ctx context.Context, who cred.Principal, id cred.RotationID, send func(cred.Rotation) error) error {
	if err := b.MayRead(ctx, who, "rotation.get"); err != nil {
		return err
	}
	changed, leave := b.rotations.join(cred.GrantID(id)) // before the first look, so that no change falls between
	defer leave()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	for last := uint64(0); ; {
		r, err := b.rotation(ctx, id)
		if err != nil {
			return err
		}
		if r.Rev != last {
			if err := send(shown(r)); err != nil || r.Over() {
				return err
			}
			last = r.Rev
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-poll.C:
		}
	}
}

// shown is a rotation without what may be secret.
func shown(r cred.Rotation) cred.Rotation {
	r.Notes = nil
	return r
}
