package notice

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

func TestEnqueue(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	d.enqueue(pending(), "slack", "mail", "slack")
	d.enqueue(pending(), "mail") // once more, as after an answer that was lost
	records := d.queue()
	if len(records) != 2 || records[0].ID != "mail/nt_1" || records[1].ID != "slack/nt_1" {
		t.Fatalf("records %+v", records)
	}
	for _, r := range records {
		q, err := decode(r)
		if err != nil || !r.Due.Equal(noon) || r.Rev != 1 || q.Attempts != 0 {
			t.Errorf("record %+v holds %+v, %v", r, q, err)
		}
		if diff := cmp.Diff(pending(), q.Notice); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// A reason that is too long for a record does not fail the transaction of what is told of.
func TestEnqueueShortens(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	n := pending()
	n.Reason = strings.Repeat("é", 2<<20)
	d.enqueue(n, "mail")
	q, err := decode(d.queue()[0])
	if err != nil || len(q.Notice.Reason) > maxText || !strings.HasPrefix(q.Notice.Reason, "éé") || !strings.HasSuffix(q.Notice.Reason, "…") {
		t.Errorf("a reason of %d bytes, %v", len(q.Notice.Reason), err)
	}
}

func TestEnqueueMakesIDs(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	n := pending()
	n.ID = ""
	d.enqueue(n, "a", "b")
	d.enqueue(n, "a")
	var ids []string
	for _, r := range d.queue() {
		_, id, _ := strings.Cut(r.ID, "/")
		ids = append(ids, id)
	}
	if len(ids) != 3 || ids[0] == ids[1] || ids[2] != ids[0] && ids[2] != ids[1] || !strings.HasPrefix(ids[0], "nt_") {
		t.Errorf("IDs %q: want two, of which one is in both channels", ids)
	}
}

func TestEnqueueInTheCallersTransaction(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	err := d.store.Update(context.Background(), func(tx store.Tx) error {
		if err := Enqueue(tx, []string{"a"}, pending()); err != nil {
			return err
		}
		return errDisk
	})
	if err == nil || len(d.queue()) != 0 {
		t.Errorf("error %v, queue %v", err, d.queue())
	}
}

func TestEnqueueRefuses(t *testing.T) {
	d := newDisk(t)
	defer d.close()
	for name, change := range map[string]func(n *Notice, channel *string){
		"an ID with a full stop": func(n *Notice, _ *string) { n.ID = "a.b" },
		"a long ID":              func(n *Notice, _ *string) { n.ID = strings.Repeat("a", 101) },
		"an ID of two lines":     func(n *Notice, _ *string) { n.ID = "a\nb" },
		"no kind":                func(n *Notice, _ *string) { n.Kind = "" },
		"no time":                func(n *Notice, _ *string) { n.At = time.Time{} },
		"no channel's name":      func(_ *Notice, c *string) { *c = "" },
		"a slash in a channel":   func(_ *Notice, c *string) { *c = "a/b" },
		"a long channel":         func(_ *Notice, c *string) { *c = strings.Repeat("a", 129) },
	} {
		n, channel := pending(), "mail"
		change(&n, &channel)
		err := d.store.Update(context.Background(), func(tx store.Tx) error { return Enqueue(tx, []string{channel}, n) })
		if cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if q := d.queue(); len(q) != 0 {
		t.Errorf("queue %v", q)
	}
}

// However much somebody writes, a notice fits into its record and is valid UTF-8.
func TestClippedFits(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.SampledFrom([]string{"a", "é", "\x00", "\xff", "日", "<", "\u202e"}).Draw(t, "piece"), rapid.IntRange(0, 9000).Draw(t, "times"))
	})
	rapid.Check(t, func(t *rapid.T) {
		n := Notice{
			ID: "x", Kind: RequestPending, At: noon, Grant: cred.GrantID(text.Draw(t, "grant")), Requester: text.Draw(t, "requester"),
			Target: text.Draw(t, "target"), Reason: text.Draw(t, "reason"), Text: text.Draw(t, "text"),
			Scopes: rapid.SliceOfN(text, 0, 3).Draw(t, "scopes"),
			Groups: make([]string, rapid.IntRange(0, 500).Draw(t, "groups")),
		}
		short := n.clipped()
		value, err := json.Marshal(queued{Channel: "c", Notice: short})
		if err != nil || len(value) > store.MaxValue {
			t.Fatalf("%d bytes, %v", len(value), err)
		}
		for _, s := range append([]string{short.Requester, short.Reason, short.Text, short.Target}, short.Scopes...) {
			if !utf8.ValidString(s) || len(s) > maxText {
				t.Fatalf("%d bytes, valid %v", len(s), utf8.ValidString(s))
			}
		}
		if len(n.Reason) <= maxText && utf8.ValidString(n.Reason) && short.Reason != n.Reason {
			t.Fatal("a reason that fits was changed")
		}
	})
}
