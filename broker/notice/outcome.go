package notice

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// end removes a notice from the queue and appends what became of it, in one transaction. Where it is
// gone already, somebody else has told.
func (d *Dispatcher) end(ctx context.Context, key store.Key, e audit.Event) error {
	return d.store.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err != nil {
			if cred.KindOf(err) == cred.NotFound {
				return nil
			}
			return err
		}
		return abandon(tx, r, e, d.now())
	})
}

func abandon(tx store.Tx, r store.Record, e audit.Event, now time.Time) error {
	r.Value, r.Due = nil, time.Time{}
	if err := tx.Put(r); err != nil {
		return err
	}
	e.Time = now
	return tx.Append(e)
}

func sentEvent(q queued, missed []string) audit.Event {
	e := event(audit.NoticeSent, q)
	if len(missed) > 0 {
		e.Detail["missed"] = asAny(missed)
	}
	return e
}

func failedEvent(q queued, err error) audit.Event {
	e := event(audit.NoticeFailed, q)
	e.Error = audit.ErrorOf(err)
	return e
}

func event(kind audit.Kind, q queued) audit.Event {
	return audit.Event{Kind: kind, Grant: q.Notice.Grant, Detail: map[string]any{
		"notice": q.Notice.ID, "kind": string(q.Notice.Kind), "channel": q.Channel, "attempts": float64(q.Attempts),
	}}
}

func asAny(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

// tidy gives up what waits for channels that are configured no longer, once its time is over.
func (d *Dispatcher) tidy(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := d.tidyOnce(ctx); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "notices of channels that are configured no longer could not be cleared; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *Dispatcher) tidyOnce(ctx context.Context) error {
	lost := map[store.Key]queued{}
	err := d.store.View(ctx, func(tx store.Tx) error {
		clear(lost)
		for r, err := range tx.Scan(store.Query{Table: store.Notices, DueBy: d.now().Add(-patience)}) {
			if err != nil {
				return err
			}
			q, _ := decode(r) // a broken one names its channel all the same
			if _, known := d.senders[q.Channel]; !known {
				lost[r.Key] = q
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	gone := &cred.Error{Kind: cred.NotFound, Op: "notice.send", Reason: "CHANNEL_GONE", Public: "the channel is configured no longer"}
	for key, q := range lost {
		d.log.ErrorContext(ctx, "a notice is given up: its channel is configured no longer", "channel", q.Channel, "notice", q.Notice.ID, "kind", q.Notice.Kind)
		if err := d.end(ctx, key, failedEvent(q, gone)); err != nil {
			return err
		}
	}
	return nil
}
