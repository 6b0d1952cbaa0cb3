package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// Checkpoint is what a log commits to: that its first Size entries have the Merkle tree hash Root.
type Checkpoint struct {
	Origin string // names the log
	Size   uint64 // number of entries
	Root   tlog.Hash
	Note   []byte // the signed note that says so

	// VerifierKey verifies the note.
	VerifierKey string
}

// checkpointText writes the body of a checkpoint (C2SP tlog-checkpoint): origin, size and root, each on
// a line of its own. tlog.FormatTree would write another log's origin.
func checkpointText(origin string, size uint64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
}

// OpenCheckpoint checks a signed checkpoint (C2SP tlog-checkpoint in a signed-note) against a log's
// verifier key, in the form "origin+hash+key" of golang.org/x/mod/sumdb/note. The key's name must be
// the checkpoint's origin. Signatures by other keys, of witnesses say, are ignored; lines behind the
// root are refused, for our logs write none. The error is Invalid.
func OpenCheckpoint(signed []byte, verifierKey string) (Checkpoint, error) {
	v, err := newVerifier(verifierKey)
	if err != nil {
		return Checkpoint{}, badCheckpoint("the verifier key can't be read", err)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if _, other := errors.AsType[*note.UnverifiedNoteError](err); other {
		return Checkpoint{}, badCheckpoint("it is not signed by the key "+keyName(verifierKey), err)
	}
	if _, forged := errors.AsType[*note.InvalidSignatureError](err); forged {
		return Checkpoint{}, badCheckpoint("its signature does not verify", err)
	}
	if err != nil {
		return Checkpoint{}, badCheckpoint("it is not a signed note", err)
	}
	c, err := parseCheckpointText(n.Text)
	if err != nil {
		return Checkpoint{}, badCheckpoint("its text is not that of a checkpoint", err)
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, badCheckpoint("its origin is not the name of the key that signed it", nil)
	}
	c.Note, c.VerifierKey = bytes.Clone(signed), verifierKey
	return c, nil
}

// newVerifier reads a verifier key in the one way that it is written: note.NewVerifier alone would take
// upper-case digits and line breaks too.
func newVerifier(key string) (note.Verifier, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, err
	}
	_, encoded, _ := strings.Cut(key[len(v.Name())+1:], "+")
	public, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || key != fmt.Sprintf("%s+%08x+%s", v.Name(), v.KeyHash(), base64.StdEncoding.EncodeToString(public)) {
		return nil, errors.New("the key is not in its canonical form")
	}
	return v, nil
}

// keyName returns a verifier key's name and hash, which together are how people tell keys apart.
func keyName(verifierKey string) string {
	parts := strings.SplitN(verifierKey, "+", 3) // the third is base64, which has plus signs of its own
	return strings.Join(parts[:min(len(parts), 2)], "+")
}

func parseCheckpointText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errors.New("a checkpoint has three lines")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > math.MaxInt64 {
		return Checkpoint{}, fmt.Errorf("size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("root %q", lines[2])
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if checkpointText(c.Origin, c.Size, c.Root) != text {
		return Checkpoint{}, errors.New("not in its canonical form")
	}
	return c, nil
}

func badCheckpoint(why string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.checkpoint", Reason: "AUDIT_CHECKPOINT_INVALID",
		Public: "the checkpoint can't be trusted: " + why, Err: cause,
	}
}
