package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// GrantFilter selects grants.
type GrantFilter struct {
	Target string          // empty: any
	State  cred.GrantState // empty: any
	After  cred.GrantID    // only older ones than this
	Limit  int             // at most so many; zero means 100, and more than 1000 means 1000
}

// ListGrants returns grants, newest first: all that match for the roles "auditor" and "security",
// else the caller's own. The second result is the After of the next page, empty at the end.
func (b *Broker) ListGrants(ctx context.Context, who cred.Principal, f GrantFilter) ([]cred.Grant, cred.GrantID, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, 1000)
	all := b.readsAll(who)
	var out []cred.Grant
	var more cred.GrantID
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		out, more = out[:0], ""
		for r, err := range tx.Scan(store.Query{Table: store.Grants, After: string(f.After), Reverse: true}) {
			if err != nil {
				return err
			}
			g, err := decodeGrant(r)
			if err != nil {
				return err
			}
			if !all && !who.Same(g.Holder) || f.Target != "" && f.Target != g.Want.Target || f.State != "" && f.State != g.State() {
				continue
			}
			if len(out) == f.Limit {
				more = out[len(out)-1].ID
				return nil
			}
			out = append(out, g)
		}
		return nil
	})
	return out, more, err
}

// GetGrant returns one grant and its leases. To a caller who may not see it, it does not exist.
func (b *Broker) GetGrant(ctx context.Context, who cred.Principal, id cred.GrantID) (cred.Grant, []cred.Lease, error) {
	var g cred.Grant
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, id)
		return err
	})
	if err != nil {
		return g, nil, err
	}
	if !b.readsAll(who) && !who.Same(g.Holder) {
		return cred.Grant{}, nil, noGrant()
	}
	leases, err := b.leases(ctx, id)
	return g, leases, err
}

// MayRead reports whether a principal may read the whole log; where not, the refusal is recorded.
func (b *Broker) MayRead(ctx context.Context, who cred.Principal, call string) error {
	if b.readsAll(who) {
		return nil
	}
	return b.Refused(ctx, who, call)
}

func (b *Broker) readsAll(who cred.Principal) bool {
	return b.HasRole(who, RoleAuditor) || b.HasRole(who, RoleSecurity)
}

// ExportFilter selects entries of the log. The zero filter selects all.
type ExportFilter struct {
	Since, Until time.Time // until is exclusive; zero means open
	Grant        cred.GrantID
	Target       string
	Subject      string // of the principal, or of the holder of the grant that it is about
}

// Export records that the log is read, and calls send for each entry that matches, up to a signed
// checkpoint, which it returns. Entries of a filtered export carry their inclusion proofs.
func (b *Broker) Export(ctx context.Context, who cred.Principal, f ExportFilter, send func(audit.Exported) error) (audit.Trailer, error) {
	if err := b.MayRead(ctx, who, "audit.export"); err != nil {
		return audit.Trailer{}, err
	}
	err := b.append(ctx, audit.Event{Kind: audit.AuditExported, Principal: audit.PrincipalOf(who), Detail: f.detail()})
	if err != nil {
		return audit.Trailer{}, err
	}
	cp, err := b.cfg.Log.Checkpoint(ctx)
	if err != nil {
		return audit.Trailer{}, err
	}
	grants, err := b.grantsFor(ctx, f)
	if err != nil {
		return audit.Trailer{}, err
	}
	for e, err := range b.cfg.Log.Entries(ctx, 0, cp.Size) {
		if err != nil {
			return audit.Trailer{}, err
		}
		if f != (ExportFilter{}) {
			match, err := f.matches(e, grants)
			if err != nil {
				return audit.Trailer{}, err
			}
			if !match {
				continue
			}
			if e.Proof, err = b.cfg.Log.Prove(ctx, e.Seq, cp.Size); err != nil {
				return audit.Trailer{}, err
			}
		}
		if err := send(e); err != nil {
			return audit.Trailer{}, err
		}
	}
	return b.cfg.Log.Trailer(ctx, cp)
}

// Checkpoint returns a signed checkpoint over everything recorded before the call.
func (b *Broker) Checkpoint(ctx context.Context, who cred.Principal) (audit.Trailer, error) {
	if err := b.MayRead(ctx, who, "audit.checkpoint"); err != nil {
		return audit.Trailer{}, err
	}
	cp, err := b.cfg.Log.Checkpoint(ctx)
	if err != nil {
		return audit.Trailer{}, err
	}
	return b.cfg.Log.Trailer(ctx, cp)
}

// grantFacts is what a filter asks of a grant: entries about a grant name the grant alone.
type grantFacts struct{ target, holder string }

// grantsFor returns what is known of the grants, nil where a filter does not ask for it.
func (b *Broker) grantsFor(ctx context.Context, f ExportFilter) (map[cred.GrantID]grantFacts, error) {
	if f.Target == "" && f.Subject == "" {
		return nil, nil
	}
	out := map[cred.GrantID]grantFacts{}
	err := b.cfg.Store.View(ctx, func(tx store.Tx) error {
		for r, err := range tx.Scan(store.Query{Table: store.Grants}) {
			if err != nil {
				return err
			}
			g, err := decodeGrant(r)
			if err != nil {
				return err
			}
			if g.Want.Target == f.Target || g.Holder.Subject == f.Subject {
				out[g.ID] = grantFacts{g.Want.Target, g.Holder.Subject}
			}
		}
		return nil
	})
	return out, err
}

func (f ExportFilter) matches(e audit.Exported, grants map[cred.GrantID]grantFacts) (bool, error) {
	_, event, err := audit.Parse(e.Canonical)
	if err != nil {
		return false, cred.Errorf(cred.Internal, "export", "", "entry %d of our own log: %w", e.Seq, err)
	}
	switch {
	case !f.Since.IsZero() && event.Time.Before(f.Since),
		!f.Until.IsZero() && !event.Time.Before(f.Until),
		f.Grant != "" && event.Grant != f.Grant,
		f.Subject != "" && grants[event.Grant].holder != f.Subject && (event.Principal == nil || event.Principal.Subject != f.Subject),
		f.Target != "" && grants[event.Grant].target != f.Target && (event.Request == nil || event.Request.Target != f.Target):
		return false, nil
	}
	return true, nil
}

// detail tells the log what was exported.
func (f ExportFilter) detail() map[string]any {
	d := map[string]any{}
	for name, value := range map[string]string{"grant": string(f.Grant), "target": f.Target, "principal": f.Subject} {
		if value != "" {
			d[name] = value
		}
	}
	if !f.Since.IsZero() {
		d["since"] = f.Since.UTC().Format(time.RFC3339Nano)
	}
	if !f.Until.IsZero() {
		d["until"] = f.Until.UTC().Format(time.RFC3339Nano)
	}
	return d
}
