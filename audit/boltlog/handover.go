package boltlog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// handOver is a hand-over of the log to another key, to be done in a batch.
type handOver struct {
	next *audit.Signer
	at   time.Time
}

// storedHandOver is a hand-over as bucketHandOvers keeps it. The entry stands in the log, and the proofs
// are computed anew for each size.
type storedHandOver struct {
	Size        uint64 `json:"size"` // of the old key's last checkpoint
	Checkpoint  []byte `json:"checkpoint"`
	VerifierKey string `json:"verifier_key"` // of the new key
}

// HandOver lets another key sign the log's checkpoints from now on. In one transaction it adds the entry
// that says so, and stores the last checkpoint that the old key signs, which covers that entry; see
// audit.HandOver. A log that the key signs already stays as it is.
//
// A key of another origin is an Invalid error; the others are those of Update.
func (l *Log) HandOver(ctx context.Context, next *audit.Signer, at time.Time) error {
	if next.Origin() != l.Signer().Origin() {
		return &cred.Error{
			Kind: cred.Invalid, Op: "log.handover", Reason: reasonOrigin,
			Public: fmt.Sprintf("the log %q can't be handed over to a key of the log %q", l.Signer().Origin(), next.Origin()),
		}
	}
	return l.do(ctx, &call{handOver: &handOver{next.Beside(nil), at}})
}

// handOver adds the entry and the old key's last checkpoint. Where it fails midway the batch can't be
// committed.
func (b *batch) handOver(h *handOver) error {
	old := b.log.Signer()
	if b.signer != nil {
		old = b.signer
	}
	if old.VerifierKey() == h.next.VerifierKey() {
		return nil
	}
	bucket := b.handOvers()
	if bucket == nil {
		return nil // finish answers it
	}
	number := 0
	if last, _ := bucket.Cursor().Last(); last != nil {
		number = int(binary.BigEndian.Uint64(last)) + 1
	}
	canonical, err := audit.Canonical(b.end.size(), audit.HandOverEvent(number, old.VerifierKey(), h.next.VerifierKey(), h.at))
	if err != nil {
		return err
	}
	b.dirty, b.signer = true, h.next
	b.fault = b.writeHandOver(bucket, number, canonical, old)
	return nil
}

// handOvers returns where hand-overs stand; nil: the batch has failed.
func (b *batch) handOvers() *bbolt.Bucket {
	bucket, err := b.tx.CreateBucketIfNotExists(bucketHandOvers)
	if err != nil {
		b.fault = err
		return nil
	}
	return bucket
}

func (b *batch) writeHandOver(bucket *bbolt.Bucket, number int, canonical []byte, old *audit.Signer) error {
	if err := b.end.add([][]byte{canonical}); err != nil {
		return err
	}
	note, err := old.Checkpoint(b.end.size(), b.end.tree.root())
	if err != nil {
		return err
	}
	value, err := json.Marshal(storedHandOver{b.end.size(), note, b.signer.VerifierKey()})
	if err != nil {
		return err
	}
	if err := bucket.Put(be(uint64(number)), value); err != nil {
		return err
	}
	return b.end.head.Put(keyVersion, be(versionHandOvers)) // an older daypass would sign on with any key
}

// storedHandOvers reads all hand-overs in their order.
func storedHandOvers(tx *bbolt.Tx) ([]storedHandOver, error) {
	bucket := tx.Bucket(bucketHandOvers)
	if bucket == nil {
		return nil, nil
	}
	var all []storedHandOver
	err := bucket.ForEach(func(key, value []byte) error {
		var h storedHandOver
		if err := json.Unmarshal(value, &h); err != nil || h.Size == 0 || string(key) != string(be(uint64(len(all)))) {
			return fmt.Errorf("hand-over %d can't be read: %w", len(all), err)
		}
		all = append(all, h)
		return nil
	})
	return all, err
}

// rightSigner returns the key that a log is signed with: the one to which it was handed over last.
func rightSigner(tx *bbolt.Tx, path string, s *audit.Signer) (*audit.Signer, error) {
	all, err := storedHandOvers(tx)
	if err != nil {
		return nil, errDamaged(path, err)
	}
	if len(all) == 0 {
		return s.Beside(nil), nil
	}
	right := all[len(all)-1].VerifierKey
	if found := s.Of(right); found != nil {
		return found, nil
	}
	return nil, &cred.Error{
		Kind: cred.Invalid, Op: "log.open", Reason: reasonKey,
		Public: fmt.Sprintf("the audit log in %s was handed over to the key %s, and the log key file holds %s; "+
			"give daypass the log key file from after that hand-over", path, right, s.VerifierKey()),
	}
}

// HandOvers returns the hand-overs within the log's first size entries, with their proofs against the
// tree of that size.
func (l *Log) HandOvers(ctx context.Context, size uint64) (all []audit.HandOver, err error) {
	if durable := l.durable.Load(); size > durable {
		return nil, errRange("there are no proofs for a log of %d entries; this log has %d", size, durable)
	}
	err = l.view(ctx, func(tx *bbolt.Tx) error {
		stored, err := storedHandOvers(tx)
		if err != nil {
			return errRead(err)
		}
		for _, s := range stored {
			if s.Size > size {
				return nil
			}
			h, err := s.proven(tx, size)
			if err != nil {
				return errRead(err)
			}
			all = append(all, h)
		}
		return nil
	})
	return all, err
}

// proven makes a hand-over complete.
func (s storedHandOver) proven(tx *bbolt.Tx, size uint64) (h audit.HandOver, err error) {
	h = audit.HandOver{Note: s.Checkpoint, VerifierKey: s.VerifierKey}
	_, canonical, err := splitRow(s.Size-1, tx.Bucket(bucketEntries).Get(be(s.Size-1)))
	if err != nil {
		return h, err
	}
	h.Entry = append(h.Entry, canonical...)
	hashes := hashReader(tx)
	if h.Proof, err = tlog.ProveRecord(int64(s.Size), int64(s.Size-1), hashes); err != nil {
		return h, err
	}
	h.Consistency, err = tlog.ProveTree(int64(size), int64(s.Size), hashes)
	return h, err
}

// Trailer returns what ends an export up to a checkpoint of this log's.
func (l *Log) Trailer(ctx context.Context, c audit.Checkpoint) (audit.Trailer, error) {
	handOvers, err := l.HandOvers(ctx, c.Size)
	return audit.Trailer{Note: c.Note, VerifierKey: c.VerifierKey, HandOvers: handOvers}, err
}
