package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// testLog is a log in memory whose tree is kept by x/mod's tlog, so that our own arithmetic is checked
// against somebody else's.
type testLog struct {
	t       testing.TB
	signer  *Signer
	entries [][]byte
	hashes  []tlog.Hash

	handOvers []testHandOver
}

func newTestLog(t testing.TB, events ...Event) *testLog {
	t.Helper()
	signer, err := GenerateSigner("daypass.example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t: t, signer: signer}
	for _, e := range events {
		l.append(e)
	}
	return l
}

// fixedSigner has the same key each time, which is of no use outside of the tests.
func fixedSigner(t testing.TB, origin string) *Signer { return fixedSignerOf(t, origin, 7) }

func fixedSignerOf(t testing.TB, origin string, b byte) *Signer {
	t.Helper()
	seed := bytes.Repeat([]byte{b}, ed25519.SeedSize)
	public, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	private := base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	s, err := ParseSigner(cred.SecretString("PRIVATE+" + "KEY+" + keyName(public) + "+" + private))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (l *testLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, l.hashes[i])
	}
	return out, nil
}

func (l *testLog) append(e Event) {
	l.t.Helper()
	b, err := Canonical(uint64(len(l.entries)), e)
	if err != nil {
		l.t.Fatal(err)
	}
	l.appendBytes(b)
}

func (l *testLog) appendBytes(b []byte) {
	l.t.Helper()
	hashes, err := tlog.StoredHashes(int64(len(l.entries)), b, l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.entries, l.hashes = append(l.entries, b), append(l.hashes, hashes...)
}

func (l *testLog) trailer() Trailer {
	l.t.Helper()
	root, err := tlog.TreeHash(int64(len(l.entries)), l)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.trailerFor(uint64(len(l.entries)), root)
}

func (l *testLog) trailerFor(size uint64, root tlog.Hash) Trailer {
	l.t.Helper()
	signed, err := l.signer.Checkpoint(size, root)
	if err != nil {
		l.t.Fatal(err)
	}
	return Trailer{Note: signed, VerifierKey: l.signer.VerifierKey()}
}

func (l *testLog) proven(seq uint64) Exported {
	l.t.Helper()
	proof, err := tlog.ProveRecord(int64(len(l.entries)), int64(seq), l)
	if err != nil {
		l.t.Fatal(err)
	}
	return Exported{Seq: seq, Canonical: l.entries[seq], Proof: proof}
}

// export writes the whole log, or with keep the entries that it names, proven.
func (l *testLog) export(f Format, keep func(uint64) bool) []byte {
	l.t.Helper()
	end := l.trailer()
	end.HandOvers = l.proveHandOvers()
	out, err := tryExport(f, end, l.exported(keep)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *testLog) exported(keep func(uint64) bool) []Exported {
	l.t.Helper()
	var all []Exported
	for i, b := range l.entries {
		x := Exported{Seq: uint64(i), Canonical: b}
		if keep != nil {
			if !keep(x.Seq) {
				continue
			}
			x = l.proven(x.Seq)
		}
		all = append(all, x)
	}
	return all
}

func tryExport(f Format, end Trailer, all ...Exported) ([]byte, error) {
	var out bytes.Buffer
	x, err := NewExporter(&out, f)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if err := x.Write(e); err != nil {
			return nil, err
		}
	}
	err = x.Close(end)
	return out.Bytes(), err
}

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

// sampleEvents returns n events of several kinds, a second apart.
func sampleEvents(n int) []Event {
	kinds := []Kind{ExchangeGranted, LeaseIntent, LeaseIssued, UseBegin, UseEnd, ExchangeDenied}
	var out []Event
	for i := range n {
		e := Event{
			Kind: kinds[i%len(kinds)], Time: testTime.Add(time.Duration(i) * time.Second), Grant: cred.GrantID(fmt.Sprintf("gr_%d", i)),
			Principal: &Principal{
				Provider: "github-actions", Issuer: "https://ci.example.com", Subject: fmt.Sprintf("repo:<%d>", i),
				Kind: cred.KindWorkload, Claims: map[string]any{"ref": "refs/heads/main", "run_attempt": float64(i)},
			},
			Request: &Request{Target: "orders-db", Scopes: []string{"read"}, Digest: strings.Repeat("ab", 32)},
		}
		out = append(out, e)
	}
	return out
}

// refused fails the test unless err is of the kind Invalid and its public text has the words in it.
func refused(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil || cred.KindOf(err) != cred.Invalid {
		t.Fatalf("error %v; want an Invalid one", err)
	}
	for _, w := range words {
		if !strings.Contains(cred.PublicText(err), w) {
			t.Errorf("public text %q lacks %q", cred.PublicText(err), w)
		}
	}
}
