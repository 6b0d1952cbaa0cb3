package bolt

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/store"
)

// FuzzDecodeRow: whatever stands in the file, a row is refused or is exactly what encodeRow writes
// for the record that it gives.
func FuzzDecodeRow(f *testing.F) {
	k := store.Key{Table: store.Grants, ID: "a"}
	f.Add([]byte{})
	f.Add(make([]byte, rowHead))
	f.Add(encodeRow(store.Record{Key: k, Rev: 1}))
	f.Add(encodeRow(store.Record{Key: k, Rev: 1 << 63, Due: time.UnixMilli(1 << 40), Value: []byte("value")}))
	f.Add(bytes.Repeat([]byte{0xff}, rowHead))
	f.Fuzz(func(t *testing.T, row []byte) {
		r, err := decodeRow(k, row)
		if err != nil {
			return
		}
		if r.Rev == 0 || r.Value == nil || r.Key != k {
			t.Errorf("%x gives %+v", row, r)
		}
		if again := encodeRow(r); !bytes.Equal(again, row) {
			t.Errorf("%x gives %+v, which is written as %x", row, r, again)
		}
	})
}

// FuzzRow: a record that may be stored is read as it was written, to the millisecond.
func FuzzRow(f *testing.F) {
	f.Add(uint64(1), int64(0), 0, []byte("value"))
	f.Add(uint64(1<<63), int64(253402300799), 999_999_999, []byte{})
	f.Fuzz(func(t *testing.T, rev uint64, seconds int64, nanoseconds int, value []byte) {
		r := store.Record{Key: store.Key{Table: store.Leases, ID: "a"}, Rev: rev, Value: append([]byte{}, value...)}
		if seconds != 0 {
			r.Due = time.Unix(seconds, int64(nanoseconds)).UTC()
		}
		if r.Check() != nil || rev == 0 {
			return
		}
		got, err := decodeRow(r.Key, encodeRow(r))
		r.Due = r.Due.Truncate(time.Millisecond)
		if diff := cmp.Diff(r, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestDecodeRowRefuses(t *testing.T) {
	good := encodeRow(store.Record{Rev: 1, Due: time.UnixMilli(1), Value: []byte("value")})
	for name, row := range map[string][]byte{
		"empty":       {},
		"short":       good[:rowHead-1],
		"no revision": binary.BigEndian.AppendUint64(make([]byte, 8), 1),
		"due too far": bytes.Repeat([]byte{0xff}, rowHead),
		"too long":    append(bytes.Clone(good), make([]byte, store.MaxValue+store.SealOverhead)...),
	} {
		if r, err := decodeRow(store.Key{Table: store.Grants, ID: "a"}, row); err == nil {
			t.Errorf("%s: got %+v, want an error", name, r)
		}
	}
}

func TestDueKey(t *testing.T) {
	due, id, err := splitDueKey(dueKey(77, "an/id"))
	if due != 77 || id != "an/id" || err != nil {
		t.Errorf("got %d, %q, %v", due, id, err)
	}
	if _, _, err := splitDueKey(make([]byte, 8)); err == nil {
		t.Error("a key without an ID is taken")
	}
	if bytes.Compare(dueKey(255, "z"), dueKey(256, "a")) >= 0 {
		t.Error("keys are not in the order of Due")
	}
}
