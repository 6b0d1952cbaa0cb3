package broker

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// Bounds of a comparison.
const (
	maxMissing      = 10_000 // leases that are ended in a round, should a source have lost more than that
	minListDeadline = 2 * time.Minute
)

// massLoss is from how many leases on, where they are more than half of those that a list should have, the
// list is not believed: it is rather of another place, or of a source that was restored from a backup, where
// revoking what it has forgotten would end nothing.
const massLoss = 20

// Report is what the last comparison of our leases with a source's list found.
type Report struct {
	Issuer     string
	At         time.Time // when it was made; zero: never yet
	Listed     int       // credentials that live at the source
	Ours       int       // leases of ours that its list should have
	Strays     int       // credentials at the source that no lease here is of
	StrayNames []string  // some of them, by the source's names
	Missing    int       // leases that it has lost since the broker started, and that were ended for that
	Problem    string    // why the last try failed, or its list is not believed, for people; empty: neither
}

// reports are the last reports of all issuers. The zero value is ready.
type reports struct {
	mu  sync.Mutex
	now map[string]Report // owner: mu
}

func (r *reports) of(name string) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.now[name]
	out.Issuer = name
	return out
}

// update changes an issuer's report, and returns it as it was.
func (r *reports) update(name string, change func(*Report)) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = map[string]Report{}
	}
	old := r.now[name]
	next := old
	change(&next)
	r.now[name] = next
	return old
}

// reconciler compares in rounds, and remembers from one to the next. Names are kept as hashes, so that a
// million leases take some bytes each. It is for one goroutine.
type reconciler struct {
	b     *Broker
	seed  maphash.Seed
	lists map[string]*compared
}

// compared is what is remembered of one source.
type compared struct {
	lister issuer.Lister
	strays map[uint64]time.Time // when each was first seen
	gone   map[uint64]bool      // leases that the last round missed
	doubt  bool                 // the last round did not believe the list, and people were told
}

func (b *Broker) newReconciler() *reconciler {
	r := &reconciler{b: b, seed: maphash.MakeSeed(), lists: map[string]*compared{}}
	for name, is := range b.cfg.Issuers {
		if l, ok := is.(issuer.Lister); ok {
			r.lists[name] = &compared{lister: l}
		}
	}
	return r
}

// reconcile compares in rounds until ctx ends.
func (b *Broker) reconcile(ctx context.Context) {
	r := b.newReconciler()
	if b.cfg.ReconcileInterval < 0 || len(r.lists) == 0 {
		return
	}
	tick := time.NewTicker(b.cfg.ReconcileInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.round(ctx); err != nil && ctx.Err() == nil {
			b.cfg.Logger.ErrorContext(ctx, "leases could not be compared with their sources; it is tried again", "error", err)
		}
	}
}

// ours are the leases of one issuer that have not ended, by the hashes of their names, sorted.
type ours struct {
	all    []uint64
	issued []uint64 // those that the source surely has, and that we can end
}

// round compares all sources once. Our leases are read first: what is issued meanwhile looks like a
// stray, and what ends meanwhile like missing, but neither in two rounds.
func (r *reconciler) round(ctx context.Context) error {
	known, err := r.leases(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.lists)) {
		if err := r.compare(ctx, name, known); err != nil && ctx.Err() == nil {
			r.b.cfg.Logger.ErrorContext(ctx, "what a comparison of leases found was not recorded", "issuer", name, "error", err)
		}
	}
	return ctx.Err()
}

func (r *reconciler) leases(ctx context.Context) (map[string]*ours, error) {
	known := map[string]*ours{}
	of := func(issuer string) *ours {
		if known[issuer] == nil {
			known[issuer] = &ours{}
		}
		return known[issuer]
	}
	err := r.eachLease(ctx, func(l cred.Lease, hash uint64) {
		o := of(l.Issuer)
		o.all = append(o.all, hash)
		if isIssued(l) {
			o.issued = append(o.issued, hash)
		}
	}, func() { clear(known) })
	for _, own := range r.b.owns.all() { // no strays either
		if source := r.lists[own.lease.Issuer]; source != nil {
			o := of(own.lease.Issuer)
			o.all = append(o.all, maphash.String(r.seed, source.lister.NameOf(own.lease)))
		}
	}
	for _, o := range known {
		slices.Sort(o.all)
		slices.Sort(o.issued)
	}
	return known, err
}

func isIssued(l cred.Lease) bool { return l.State() == cred.LeaseIssued && l.Revocable }

// eachLease calls each for every lease that has not ended and that its source names. Those have a due
// time, but for what nobody can end and what does not end. It begins anew where the transaction does.
func (r *reconciler) eachLease(ctx context.Context, each func(l cred.Lease, hash uint64), begin func()) error {
	return r.b.cfg.Store.View(ctx, func(tx store.Tx) error {
		begin()
		for record, err := range tx.Scan(store.Query{Table: store.Leases, DueBy: r.b.now().AddDate(100, 0, 0)}) {
			if err != nil {
				return err
			}
			l, err := decodeLease(record)
			if err != nil {
				r.b.cfg.Logger.WarnContext(ctx, "a lease can't be read", "error", err)
				continue
			}
			source := r.lists[l.Issuer]
			if source == nil {
				continue
			}
			if name := source.lister.NameOf(l); name != "" {
				each(l, maphash.String(r.seed, name))
			}
		}
		return nil
	})
}

// compare holds one source's list against our leases.
func (r *reconciler) compare(ctx context.Context, name string, known map[string]*ours) error {
	source, b := r.lists[name], r.b
	list, cancel := context.WithTimeout(ctx, max(b.cfg.IssueTimeout, minListDeadline))
	names, err := source.lister.Live(list)
	cancel()
	if err != nil {
		problem := cred.PublicText(err)
		if old := b.compared.update(name, func(r *Report) { r.Problem = problem }); old.Problem != problem {
			b.cfg.Logger.WarnContext(ctx, "a source does not list its credentials", "issuer", name, "error", err)
		}
		return nil
	}
	now := b.now()
	live := make([]uint64, len(names))
	for i, n := range names {
		live[i] = maphash.String(r.seed, n)
	}
	strays := source.unknown(names, live, known, now, b.cfg.IssueTimeout)
	slices.Sort(live)
	mine := known[name]
	if mine == nil {
		mine = &ours{}
	}
	gone := source.missing(live, mine.issued)
	problem := doubtful(len(gone), len(mine.issued))
	b.compared.update(name, func(r *Report) {
		*r = Report{
			Issuer: name, At: now, Listed: len(names), Ours: len(mine.all), Strays: len(strays), StrayNames: nameSome(strays), Missing: r.Missing,
			Problem: problem,
		}
	})
	if err := b.tellStrays(ctx, name, strays); err != nil {
		return err
	}
	if problem != "" {
		return b.tellDoubt(ctx, name, source, problem, len(gone), len(mine.issued))
	}
	source.doubt = false
	if len(gone) == 0 {
		return nil
	}
	return r.endMissing(ctx, name, gone)
}

// doubtful tells why a list that lacks some of the leases that it should have is not believed; empty where
// it is.
func doubtful(gone, issued int) string {
	if gone < massLoss || 2*gone <= issued {
		return ""
	}
	return fmt.Sprintf("its list lacks %d of the %d credentials that it should have: none of them was ended for that, and somebody has to look", gone, issued)
}

// tellDoubt records, once, that a list is not believed, and tells people.
func (b *Broker) tellDoubt(ctx context.Context, name string, source *compared, problem string, gone, issued int) error {
	if source.doubt {
		return nil
	}
	b.cfg.Logger.ErrorContext(ctx, "a source's list is not believed", "issuer", name, "problem", problem)
	err := b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		now := b.now()
		if err := b.notifyLeases(tx, notice.LeasesMissing, name, fmt.Sprintf("the source of issuer %s: %s", name, problem), now); err != nil {
			return err
		}
		return tx.Append(audit.Event{
			Kind: audit.LeaseDoubted, Time: now, Detail: map[string]any{"issuer": name, "missing": gone, "issued": issued},
		})
	})
	source.doubt = err == nil
	if err != nil {
		return notRecorded(err)
	}
	return nil
}

// unknown returns the strays of a list, by their names. What is new, or may be what is being issued right
// now, does not count yet. A lease of any issuer makes a name ours: several may mint at the same place.
func (c *compared) unknown(names []string, hashes []uint64, known map[string]*ours, now time.Time, issuing time.Duration) (strays []string) {
	seen := map[uint64]time.Time{}
	for i, hash := range hashes {
		if isOurs(known, hash) {
			continue
		}
		first, again := c.strays[hash]
		if !again {
			first = now
		}
		seen[hash] = first
		if again && now.Sub(first) >= issuing {
			strays = append(strays, names[i])
		}
	}
	c.strays = seen
	return strays
}

func isOurs(known map[string]*ours, hash uint64) bool {
	for _, o := range known {
		if _, ok := slices.BinarySearch(o.all, hash); ok {
			return true
		}
	}
	return false
}

// missing returns the leases that a list lacks, and lacked in the round before.
func (c *compared) missing(live, issued []uint64) map[uint64]bool {
	gone, twice := map[uint64]bool{}, map[uint64]bool{}
	for _, hash := range issued {
		if _, there := slices.BinarySearch(live, hash); there {
			continue
		}
		gone[hash] = true
		if c.gone[hash] {
			twice[hash] = true
		}
	}
	c.gone = gone
	return twice
}

// endMissing ends leases that their source has no more.
func (r *reconciler) endMissing(ctx context.Context, name string, gone map[uint64]bool) error {
	b := r.b
	var keys []store.Key
	err := r.eachLease(ctx, func(l cred.Lease, hash uint64) {
		if l.Issuer == name && gone[hash] && isIssued(l) && len(keys) < maxMissing {
			keys = append(keys, leaseKey(l))
		}
	}, func() { keys = keys[:0] })
	if err != nil {
		return err
	}
	ended := 0
	for _, key := range keys {
		changed, err := b.leaseMissing(ctx, key)
		if err != nil {
			return err
		}
		if changed {
			ended++
		}
	}
	if ended == 0 {
		return nil
	}
	b.compared.update(name, func(r *Report) { r.Missing += ended })
	b.cfg.Logger.ErrorContext(ctx, "a source has lost credentials that nobody here ended", "issuer", name, "leases", ended)
	now := b.now()
	return b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		text := fmt.Sprintf("the source of issuer %s has lost %d credentials that nobody here ended", name, ended)
		return b.notifyLeases(tx, notice.LeasesMissing, name, text, now)
	})
}

// leaseMissing ends a lease that its source has no more. It is revoked all the same, so that surely
// nothing is left of it.
func (b *Broker) leaseMissing(ctx context.Context, key store.Key) (changed bool, err error) {
	err = b.cfg.Store.Update(ctx, func(tx store.Tx) error {
		changed = false
		l, err := getLease(tx, key)
		if err != nil || !isIssued(l) || ended(l, b.now()) {
			return err
		}
		g, err := getGrant(tx, l.Grant)
		if err != nil {
			return err
		}
		if l, err = l.Revoking(); err != nil {
			return err
		}
		l.Note = "its source lists it no more"
		_, err = b.writeLease(ctx, tx, l, g, audit.LeaseMissing)
		changed = err == nil
		return err
	})
	if err != nil || !changed {
		return changed, err
	}
	_, err = b.settle(ctx, key, endNow)
	return true, err
}

// notifyLeases queues a notice about the leases of an issuer, if there is anybody to tell it.
func (b *Broker) notifyLeases(tx store.Tx, kind notice.Kind, name, text string, now time.Time) error {
	if b.cfg.Notify == nil {
		return nil
	}
	return b.cfg.Notify(tx, notice.Notice{ID: fmt.Sprintf("leases:%.16s:%d", hashOf(name, string(kind)), now.UnixMilli()), Kind: kind, At: now, Text: text})
}
