package boltlog

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

const origin = "daypass.example.com/test"

func newSigner(t testing.TB) *audit.Signer {
	t.Helper()
	s, err := audit.GenerateSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logPath returns a place for a log's file.
func logPath(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.db") }

// openLog opens a log that is closed, and verified, at the test's end.
func openLog(t testing.TB, path string, s *audit.Signer) *Log {
	t.Helper()
	l, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// event returns an event that can be told from others by n.
func event(n int) audit.Event {
	return audit.Event{
		Kind: audit.ExchangeGranted, Time: time.Unix(1_800_000_000, 0).UTC(),
		Grant: cred.GrantID(fmt.Sprintf("gr_%026d", n)),
		Principal: &audit.Principal{
			Provider: "github-actions", Issuer: "https://issuer.example.com", Subject: "repo:example/app:ref:refs/heads/main",
			Claims: map[string]any{"repository_id": "4711", "ref": "refs/heads/main", "run_id": "1234567"},
		},
		Request:  &audit.Request{Target: "orders-db", Scopes: []string{"read"}, TTLSeconds: 900, Digest: "ab"},
		Decision: &audit.Decision{Allowed: true, Rule: "deploys-from-main", PolicyHash: "cd"},
	}
}

func mustAppend(t testing.TB, l *Log, events ...audit.Event) uint64 {
	t.Helper()
	first, err := l.Append(context.Background(), events...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// collect returns the entries of a log from one place to another.
func collect(t testing.TB, l *Log, from, to uint64) []audit.Exported {
	t.Helper()
	var all []audit.Exported
	for e, err := range l.Entries(context.Background(), from, to) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// memory is a tree of tlog's own making, which the log's must equal.
type memory []tlog.Hash

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = (*m)[index]
	}
	return out, nil
}

func (m *memory) add(t testing.TB, seq int, canonical []byte) []tlog.Hash {
	t.Helper()
	hashes, err := tlog.StoredHashes(int64(seq), canonical, m)
	if err != nil {
		t.Fatal(err)
	}
	*m = append(*m, hashes...)
	return hashes
}

// verify checks the whole log: every entry's place and form, and the checkpoint over all of them.
func verify(t testing.TB, l *Log) {
	t.Helper()
	c, err := l.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := audit.OpenCheckpoint(c.Note, l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	var tree memory
	all := collect(t, l, 0, c.Size)
	for i, e := range all {
		if seq, _, err := audit.Parse(e.Canonical); err != nil || seq != uint64(i) || e.Seq != uint64(i) {
			t.Fatalf("entry %d is numbered %d and %d: %v", i, e.Seq, seq, err)
		}
		tree.add(t, i, e.Canonical)
	}
	root, err := tlog.TreeHash(int64(len(all)), &tree)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Root != root || opened.Size != uint64(len(all)) || opened.Origin != origin {
		t.Fatalf("the checkpoint says %q, %d entries, root %v; the entries say %d, %v", opened.Origin, opened.Size, opened.Root, len(all), root)
	}
}

// countCommits counts the commits of a log that nobody uses yet.
func countCommits(l *Log) *atomic.Int64 {
	var n atomic.Int64
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error {
		n.Add(1)
		return commit(tx)
	}
	return &n
}
