package kv

import (
	"encoding/json"
	"errors"
	"maps"
	"strconv"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The notes of a rotation.
const (
	noteOld     = "kv.old"     // the whole secret before
	noteNew     = "kv.new"     // the whole secret after, where it is known
	noteVersion = "kv.version" // of the secret before
)

// journal is what the notes say. new is nil where nobody knows it yet.
type journal struct {
	old, new Values
	version  int
}

func readNotes(r issuer.Rotation) (journal, error) {
	var j journal
	var errs [3]error
	j.old, errs[0] = decode(r.Notes[noteOld])
	if text, ok := r.Notes[noteNew]; ok {
		j.new, errs[1] = decode(text)
	}
	j.version, errs[2] = strconv.Atoi(r.Notes[noteVersion].RevealString())
	if err := errors.Join(errs[:]...); err != nil || j.version < 1 {
		return journal{}, cred.Errorf(cred.Internal, "kv.notes", "", "the rotation's notes can't be read: %w", errors.Join(err, errNotes))
	}
	return j, nil
}

var errNotes = errors.New("kv: not notes that Prepare wrote")

// encode writes a secret's fields for the sealed journal.
func encode(v Values) cred.Secret {
	plain := make(map[string][]byte, len(v))
	for name, value := range v {
		plain[name] = value.Reveal()
	}
	text, _ := json.Marshal(plain) // a map of strings and bytes can't fail
	return cred.NewSecret(text)
}

// decode reads what encode wrote. Its errors say nothing of the content.
func decode(text cred.Secret) (Values, error) {
	var plain map[string][]byte
	if json.Unmarshal(text.Reveal(), &plain) != nil || plain == nil {
		return nil, errNotes
	}
	v := make(Values, len(plain))
	for name, value := range plain {
		v[name] = cred.NewSecret(value)
	}
	return v, nil
}

// merge returns a secret with some fields replaced or added.
func merge(v, changes Values) Values {
	all := maps.Clone(v)
	maps.Copy(all, changes)
	return all
}

// changed returns the fields of to that from does not have, or has otherwise.
func changed(from, to Values) Values {
	fields := maps.Clone(to)
	maps.DeleteFunc(fields, func(name string, value cred.Secret) bool { return holds(from, Values{name: value}) })
	return fields
}

// holds reports whether a secret has some fields, at least one, with these values.
func holds(v, fields Values) bool {
	for name, value := range fields {
		if is, there := v[name]; !there || is.Fingerprint() != value.Fingerprint() {
			return false
		}
	}
	return len(fields) > 0
}

// same compares the fields of two secrets. Secrets are equal where their fingerprints are.
func same(a, b Values) bool {
	return maps.EqualFunc(a, b, func(x, y cred.Secret) bool { return x.Fingerprint() == y.Fingerprint() })
}
