package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// Jobs tells whether a CI job is over, whoever the job is of. Ended returns why, for people; false for a
// principal that is no job that it knows of. An error says that nobody knows: it changes nothing. It is
// safe for concurrent use.
type Jobs interface {
	Ended(ctx context.Context, p cred.Principal) (ended bool, why string, err error)
}

// outsideCalls is how many jobs are asked for at a time, and how many credentials of the broker's own are
// ended when it stops.
const outsideCalls = 4

// watchJobs ends the grants of jobs that are over, until ctx ends.
func (b *Broker) watchJobs(ctx context.Context) {
	if b.cfg.Jobs == nil {
		return
	}
	tick := time.NewTicker(b.cfg.JobsInterval)
	defer tick.Stop()
	for problems := map[string]bool{}; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		problems = b.endOfJobs(ctx, problems)
	}
}

// endOfJobs looks at each job that has a grant, once. It returns the problems that there were, and logs
// those that were not there the last time.
func (b *Broker) endOfJobs(ctx context.Context, known map[string]bool) map[string]bool {
	ids, err := b.jobGrants(ctx)
	if err != nil {
		b.cfg.Logger.ErrorContext(ctx, "the grants of jobs could not be read", "error", err)
		return known
	}
	var mu sync.Mutex
	var over []cred.GrantID
	now := map[string]bool{}
	inParallel(ctx, ids, func(id cred.GrantID) {
		ended, problem := b.endWithJob(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if ended {
			over = append(over, id)
		}
		if problem == "" || ctx.Err() != nil {
			return
		}
		if !known[problem] && !now[problem] {
			b.cfg.Logger.WarnContext(ctx, "nobody knows whether a job is over; its grants end at their own end", "grant", id, "problem", problem)
		}
		now[problem] = true
	})
	b.endAll(context.WithoutCancel(ctx), over)
	for _, gone := range slices.Sorted(maps.Keys(known)) {
		if !now[gone] && ctx.Err() == nil {
			b.cfg.Logger.InfoContext(ctx, "jobs can be asked for again", "problem", gone)
		}
	}
	return now
}

// inParallel calls do for each, a few at a time, until ctx ends.
func inParallel[T any](ctx context.Context, all []T, do func(T)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, outsideCalls)
	for _, one := range all {
		places <- struct{}{}
		if ctx.Err() != nil {
			return
		}
		wg.Go(func() {
			defer func() { <-places }()
			do(one)
		})
	}
}

// jobGrants lists the grants that jobs hold, or wait for.
func (b *Broker) jobGrants(ctx context.Context) (ids []cred.GrantID, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) error {
		ids = ids[:0]
		for g, err := range grantsToCome(tx, b.now()) {
			if err != nil {
				return err
			}
			if isJob(g) && !g.Over() {
				ids = append(ids, g.ID)
			}
		}
		return nil
	})
	return ids, err
}

// isJob reports whether a grant ends with a job. What a job asked to be rotated is rotated without it.
func isJob(g cred.Grant) bool { return g.Holder.Kind == cred.KindWorkload && !isForRotation(g) }

// endWithJob revokes a grant whose job is over. It reports whether it did, or why nobody knows whether the
// job is over.
func (b *Broker) endWithJob(ctx context.Context, id cred.GrantID) (ended bool, problem string) {
	var g cred.Grant
	err := b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		g, err = getGrant(tx, id)
		return err
	})
	if err != nil || !isJob(g) || g.Over() {
		return false, ""
	}
	over, why, err := b.cfg.Jobs.Ended(ctx, g.Holder)
	if err != nil {
		return false, g.Holder.Provider + ": " + cred.PublicText(err)
	}
	if !over {
		return false, ""
	}
	reason := strings.TrimSuffix("the job has ended: "+why, ": ")
	_, ended, err = b.endGrant(ctx, id, b.itself(), reason, isJob)
	if err != nil {
		b.cfg.Logger.ErrorContext(ctx, "the grant of a job that is over could not be ended yet", "grant", id, "error", err)
	}
	return ended, ""
}

// itself is who the broker is where it acts of its own accord.
func (b *Broker) itself() cred.Principal {
	return cred.Principal{Provider: "daypass", Issuer: b.cfg.URL, Subject: "broker", Name: "daypass", Kind: cred.KindWorkload}
}
