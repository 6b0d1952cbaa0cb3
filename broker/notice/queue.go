package notice

import (
	"crypto/rand"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// queued is the record of one notice for one channel.
type queued struct {
	Channel  string    `json:"channel"`
	Notice   Notice    `json:"notice"`
	Attempts int       `json:"attempts,omitempty"` // begun so far
	GiveUp   time.Time `json:"give_up,omitzero"`   // after it no further try is made; set by the first
}

var validID = regexp.MustCompile(`^(?:[A-Za-z0-9_:/-]{1,100})$`)

// maxChannel bounds a channel's name, so that names and IDs fit into a key.
const maxChannel = 128

// Enqueue writes a notice for each of the channels into the caller's transaction, due at once. A
// notice whose ID waits already for a channel is not queued there again. Texts that are too long for
// a notice are shortened. The error is Invalid for a notice without Kind or At, for an ID or a
// channel's name that can't be stored, else the store's.
func Enqueue(tx store.Tx, channels []string, n Notice) error {
	if n.ID == "" {
		n.ID = "nt_" + strings.ToLower(rand.Text())
	}
	if !validID.MatchString(n.ID) || n.Kind == "" || n.At.IsZero() {
		return &cred.Error{Kind: cred.Invalid, Op: "notice.enqueue", Reason: "NOTICE_INVALID", Public: "a notice needs an ID of letters and digits, a kind and a time"}
	}
	n = n.clipped()
	for _, channel := range slices.Compact(slices.Sorted(slices.Values(channels))) {
		if err := enqueue(tx, channel, n); err != nil {
			return err
		}
	}
	return nil
}

func enqueue(tx store.Tx, channel string, n Notice) error {
	if channel == "" || len(channel) > maxChannel || strings.Contains(channel, "/") {
		return &cred.Error{Kind: cred.Invalid, Op: "notice.enqueue", Reason: "NOTICE_INVALID", Public: "this is not the name of a channel"}
	}
	r, err := tx.Get(store.Key{Table: store.Notices, ID: channel + "/" + n.ID})
	if err == nil {
		return nil
	}
	if cred.KindOf(err) != cred.NotFound {
		return err
	}
	r.Key = store.Key{Table: store.Notices, ID: channel + "/" + n.ID}
	return put(tx, r, queued{Channel: channel, Notice: n}, n.At)
}

// put writes a record with the time at which it is to be looked at again.
func put(tx store.Tx, r store.Record, q queued, due time.Time) error {
	value, err := json.Marshal(q)
	if err != nil {
		return cred.Errorf(cred.Internal, "notice.put", "", "encode a notice: %w", err)
	}
	r.Value, r.Due = value, due
	return tx.Put(r)
}

// decode reads a record. What can't be read has the channel and the ID that its key names.
func decode(r store.Record) (queued, error) {
	var q queued
	if err := json.Unmarshal(r.Value, &q); err != nil {
		channel, id, _ := strings.Cut(r.ID, "/")
		return queued{Channel: channel, Notice: Notice{ID: id}}, cred.Errorf(cred.Internal, "notice.read", "", "decode the notice %s: %w", r.ID, err)
	}
	return q, nil
}

// The most that one text of a notice may have, in bytes, and one list, in items.
const (
	maxText = 4096
	maxList = 64
)

// clipped returns a copy that is sure to fit into a record: a notice must never fail the transaction
// of what it tells of because somebody wrote a long reason.
func (n Notice) clipped() Notice {
	for _, s := range []*string{&n.Requester, &n.Actor, &n.Target, &n.Reason, &n.Rule, &n.Digest, &n.Text, (*string)(&n.Grant), (*string)(&n.Kind)} {
		*s = clip(*s, maxText)
	}
	for _, list := range []*[]string{&n.Scopes, &n.Groups} {
		short := make([]string, 0, min(len(*list), maxList))
		for _, s := range (*list)[:min(len(*list), maxList)] {
			short = append(short, clip(s, maxText/8))
		}
		*list = short
	}
	return n
}

// clip shortens valid UTF-8 to a number of bytes, with an ellipsis in place of the rest.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	end := most - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
