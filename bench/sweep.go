package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// What the store of the sweep holds.
const (
	sweepLeases = 1_000_000
	shortLeases = 10_000
	sweepBatch  = 50_000 // leases in a transaction
	perGrant    = 10     // leases
	sweepURL    = "https://bench.example.com"
)

// sweepFigures are what the child that sweeps reports.
type sweepFigures struct {
	Idle, Due  time.Duration
	Revoked    int64
	HeapBytes  uint64 // the most that was in use while it swept
	RSSBytes   uint64 // the most that the process ever had, pages of the file included
	LeftBehind int
}

// benchSweep measures a sweep of a sealed bbolt store with a million leases: one in which nothing is due,
// and one in which each hundredth is to be revoked, which is two durable transactions for each lease. It
// runs in a process of its own, so that its memory is the broker's and not that of who made the store.
func benchSweep(ctx context.Context, b *bench) ([]result, error) {
	leases := sweepLeases
	if b.short {
		leases = shortLeases
	}
	dir := filepath.Join(b.dir, "sweep")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	made, err := makeLeases(ctx, dir, leases)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, exe, "sweep", dir)
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return nil, fmt.Errorf("the sweep: %w", err)
	}
	var f sweepFigures
	if err := json.Unmarshal(out, &f); err != nil {
		return nil, err
	}
	if want := int64(leases / 100); f.Revoked != want || f.LeftBehind != 0 {
		return nil, fmt.Errorf("the sweep revoked %d leases, want %d, and left %d", f.Revoked, want, f.LeftBehind)
	}
	const mib = 1 << 20
	of := "sweep of " + number(float64(leases)) + " leases"
	return []result{
		{Name: of + ": none due", Value: float64(f.Idle.Microseconds()), Unit: "µs"},
		{Name: of + ": 1 % to be revoked", Value: float64(f.Due.Milliseconds()), Unit: "ms"},
		{Name: of + ": heap in use, at the most", Value: float64(f.HeapBytes) / mib, Unit: "MiB"},
		{Name: of + ": resident, the file's pages included", Value: float64(f.RSSBytes) / mib, Unit: "MiB"},
		{Name: of + ": making the store, beforehand", Value: made.Seconds(), Unit: "s"},
	}, nil
}

// makeLeases fills a store, and leaves beside it the keys that open it.
func makeLeases(ctx context.Context, dir string, leases int) (time.Duration, error) {
	began := time.Now()
	signer, err := audit.GenerateSigner("bench.example.com/sweep")
	if err != nil {
		return 0, err
	}
	key, err := store.WriteSealingKey(filepath.Join(dir, "sealing"))
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, "signer"), signer.Encode().Reveal(), 0o600); err != nil {
		return 0, err
	}
	disk, err := bolt.Open(filepath.Join(dir, "store.db"), signer, bolt.Options{})
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	st := store.Sealed(disk, key)
	now := time.Now().Truncate(time.Millisecond)
	for from := 0; from < leases; from += sweepBatch {
		err := st.Update(ctx, func(tx store.Tx) error { return putLeases(tx, now, from, min(from+sweepBatch, leases)) })
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// putLeases writes leases with their grants. Every hundredth grant was revoked, and its leases were not
// yet: they are due.
func putLeases(tx store.Tx, now time.Time, from, to int) error {
	var g cred.Grant
	for n := from; n < to; n++ {
		at := now.Add(time.Duration(n-sweepLeases) * time.Millisecond)
		if n%perGrant == 0 {
			g = cred.NewGrant(cred.NewGrantID(at), benchHolder, cred.Request{Target: "orders"}, at, now.Add(24*time.Hour))
			if n/perGrant%100 == 0 {
				var err error
				if g, err = g.Revoke(now, "bench"); err != nil {
					return err
				}
			}
			if err := put(tx, store.Grants, string(g.ID), g.NotAfter, g); err != nil {
				return err
			}
		}
		id := cred.NewLeaseID(at)
		l := cred.NewLease(id, g.ID, "holder", "vault", "", at, g.NotAfter)
		l, err := l.Issued("handle-"+string(id), cred.Fingerprint{1}, true, g.NotAfter)
		if err != nil {
			return err
		}
		due := g.NotAfter
		if g.Over() {
			due = now
		}
		if err := put(tx, store.Leases, string(g.ID)+"/"+string(id), due, l); err != nil {
			return err
		}
	}
	return nil
}

var benchHolder = cred.Principal{
	Provider: "ci", Issuer: "https://ci.example.com", Subject: "job", Kind: cred.KindWorkload, Claims: map[string]any{"ref": "refs/heads/main"},
}

func put(tx store.Tx, table store.Table, id string, due time.Time, v json.Marshaler) error {
	value, err := v.MarshalJSON()
	if err != nil {
		return err
	}
	return tx.Put(store.Record{Key: store.Key{Table: table, ID: id}, Due: due, Value: value})
}

// sweepChild sweeps twice what makeLeases made, and prints what that took.
func sweepChild(dir string) {
	f, err := sweepOnce(context.Background(), dir)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func sweepOnce(ctx context.Context, dir string) (f sweepFigures, err error) {
	source := &revoker{}
	now, held := time.Now(), &atomic.Pointer[time.Time]{}
	early := now.Add(-24 * time.Hour) // before anything was due
	held.Store(&early)
	b, disk, err := openBroker(ctx, dir, source, func() time.Time { return *held.Load() })
	if err != nil {
		return f, err
	}
	defer disk.Close()
	done := watchHeap(&f.HeapBytes)
	defer func() {
		done()
		f.RSSBytes = peakRSS()
	}()
	began := time.Now()
	if err := b.Sweep(ctx); err != nil {
		return f, err
	}
	f.Idle = time.Since(began)
	held.Store(&now)
	began = time.Now()
	if err := b.Sweep(ctx); err != nil {
		return f, err
	}
	f.Due, f.Revoked = time.Since(began), source.revoked.Load()
	err = disk.View(ctx, func(tx store.Tx) error {
		for _, err := range tx.Scan(store.Query{Table: store.Leases, DueBy: now}) {
			if err != nil {
				return err
			}
			f.LeftBehind++
		}
		return nil
	})
	return f, err
}

// revoker is a source that revokes at once.
type revoker struct{ revoked atomic.Int64 }

func (*revoker) Issue(context.Context, issuer.Spec) (cred.Credential, cred.Lease, error) {
	return cred.Credential{}, cred.Lease{}, cred.Errorf(cred.Invalid, "bench", "", "it issues nothing")
}

func (r *revoker) Revoke(context.Context, cred.Lease) error {
	r.revoked.Add(1)
	return nil
}

func openBroker(ctx context.Context, dir string, source issuer.Issuer, now func() time.Time) (*broker.Broker, *bolt.Store, error) {
	encoded, err := os.ReadFile(filepath.Join(dir, "signer"))
	if err != nil {
		return nil, nil, err
	}
	signer, err := audit.ParseSigner(cred.NewSecret(encoded))
	if err != nil {
		return nil, nil, err
	}
	key, err := store.ReadSealingKey(filepath.Join(dir, "sealing"))
	if err != nil {
		return nil, nil, err
	}
	disk, err := bolt.Open(filepath.Join(dir, "store.db"), signer, bolt.Options{})
	if err != nil {
		return nil, nil, err
	}
	st := store.Sealed(disk, key)
	keys, err := broker.OpenKeys(ctx, st, token.EdDSA, now())
	if err != nil {
		return nil, nil, err
	}
	who, err := identity.New([]identity.Provider{{Name: "ci", Issuer: "https://ci.example.com", Audiences: []string{sweepURL}, Kind: cred.KindWorkload}}, now)
	if err != nil {
		return nil, nil, err
	}
	set, problems := policy.Compile(policy.Source{Targets: []policy.Target{{Name: "orders", Deliver: "direct", Credential: policy.Credential{Issuer: "vault", Path: "orders"}}}})
	if problems != nil {
		return nil, nil, problems
	}
	b, err := broker.New(ctx, broker.Config{
		URL: sweepURL, Store: st, Log: disk.Log(), Identity: who, Policy: set, Keys: keys,
		Issuers: map[string]issuer.Issuer{"vault": source}, Logger: slog.New(slog.DiscardHandler), Now: now,
	})
	return b, disk, err
}

// watchHeap notes the most heap that is in use until done is called.
func watchHeap(most *uint64) (done func()) {
	runtime.GC()
	stop, stopped := make(chan struct{}), make(chan struct{})
	look := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		*most = max(*most, m.HeapInuse)
	}
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				look()
				return
			case <-tick.C:
				look()
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// peakRSS is the most memory that the process ever had, in bytes, zero where the kernel does not tell.
func peakRSS() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseUint(fields[0], 10, 64)
	return kib << 10
}
