package ownkeys

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
)

// Log is the audit log whose key is rotated. *boltlog.Log is one.
type Log interface {
	// Signer returns the key that signs checkpoints now.
	Signer() *audit.Signer
	// HandOver lets another key sign from now on, see audit.HandOver. It does nothing where that key
	// signs already.
	HandOver(ctx context.Context, next *audit.Signer, at time.Time) error
	Checkpoint(ctx context.Context) (audit.Checkpoint, error)
	// Trailer returns what ends an export up to a checkpoint.
	Trailer(ctx context.Context, c audit.Checkpoint) (audit.Trailer, error)
}

// LogConfig is what the rotation of the log's signing key needs. All of it is required.
type LogConfig struct {
	Log  Log
	File string // of the key; from Prepare to Retire it holds two
	Now  func() time.Time
}

// LogKey rotates the key that signs the audit log's checkpoints. The log is handed over in its own
// entries, so that who knows the old key can follow to the new one. Which key is in use, the log says;
// the file holds both until Retire.
type LogKey struct{ cfg LogConfig }

var _ issuer.Rotator = (*LogKey)(nil)

// NewLogKey checks a configuration. Errors are Invalid.
func NewLogKey(cfg LogConfig) (*LogKey, error) {
	if cfg.Log == nil || cfg.File == "" || cfg.Now == nil {
		return nil, cred.Errorf(cred.Invalid, "log_key", "the rotation of the log's key lacks a required part of its configuration", "incomplete")
	}
	return &LogKey{cfg}, nil
}

// read returns what the file holds, with the key that is in use first.
func (l *LogKey) read() (current, other *audit.Signer, err error) {
	text, err := keyfile.Read(l.cfg.File)
	if err != nil {
		return nil, nil, err
	}
	file, err := audit.ParseSigner(text)
	if err != nil {
		return nil, nil, err
	}
	current = l.cfg.Log.Signer()
	if file.Of(current.VerifierKey()) == nil {
		return nil, nil, cred.Errorf(cred.Invalid, "log_key", fmt.Sprintf(
			"the log is signed by the key %s, which does not stand in %s; put it back there", current.VerifierKey(), l.cfg.File), "key differs")
	}
	for _, one := range []*audit.Signer{file.Beside(nil), file.Other()} {
		if one != nil && one.VerifierKey() != current.VerifierKey() {
			other = one
		}
	}
	return current, other, nil
}

// write makes the file hold one key, or two, unless it does already.
func (l *LogKey) write(first, second *audit.Signer) error {
	want := first.Beside(second).Encode()
	if is, err := keyfile.Read(l.cfg.File); err == nil && bytes.Equal(is.Reveal(), want.Reveal()) {
		return nil
	}
	return keyfile.Replace(l.cfg.File, want)
}

// Check implements issuer.Rotator.
func (l *LogKey) Check(context.Context, issuer.Rotation) ([]cred.Finding, error) {
	current := l.cfg.Log.Signer()
	held := cred.Finding{Name: "key file holds the key in use", OK: true, Text: "it signs as " + current.VerifierKey()}
	if _, _, err := l.read(); err != nil {
		held.OK, held.Text = false, cred.PublicText(err)
	}
	file := cred.Finding{Name: "key file can be replaced", OK: true, Text: "daypass may write to the directory of " + l.cfg.File}
	if err := keyfile.MayReplace(l.cfg.File); err != nil {
		file.OK, file.Text = false, cred.PublicText(err)
	}
	return []cred.Finding{held, file, {
		Name: "auditors", OK: true,
		Text: "exports will prove the new key to those who have pinned the old one; tell them the new one all the same",
	}}, nil
}

// Prepare implements issuer.Rotator: a fresh key stands in the file, beside the one in use. One from an
// earlier try was never used and makes room.
func (l *LogKey) Prepare(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	current, _, err := l.read()
	if err != nil {
		return r, err
	}
	next, err := audit.GenerateSigner(current.Origin())
	if err != nil {
		return r, err
	}
	if err := l.write(current, next); err != nil {
		return r, err
	}
	r.Old, r.New = current.VerifierKey(), next.VerifierKey()
	return r, nil
}

// Switch implements issuer.Rotator.
func (l *LogKey) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	current, other, err := l.read()
	switch {
	case err != nil:
		return r, err
	case current.VerifierKey() == r.New: // done before, but perhaps for the file
		return r, midway(l.write(current, other))
	case current.VerifierKey() != r.Old:
		return r, changed("log_key.switch", "the log's key", current.VerifierKey(), r)
	case other == nil || other.VerifierKey() != r.New:
		return r, cred.Errorf(cred.Invalid, "log_key.switch", "the new key does not stand in "+l.cfg.File+" any more; begin a new rotation", "key gone")
	}
	if err := l.cfg.Log.HandOver(ctx, other, l.cfg.Now()); err != nil {
		return r, err
	}
	return r, midway(l.write(other, current))
}

// midway makes an error that comes after the log was handed over one that is tried again.
func midway(err error) error {
	if err == nil || cred.KindOf(err) == cred.Unavailable {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "log_key.file", Reason: "LOG_KEY_FILE", Err: err,
		Public: "the log is signed by another key now, and its file could not be brought up to date: " + cred.PublicText(err),
	}
}

// Verify implements issuer.Rotator: an export must verify with the old key and with the new one.
func (l *LogKey) Verify(ctx context.Context, r issuer.Rotation) error {
	current, _, err := l.read()
	if err != nil {
		return err
	}
	if current.VerifierKey() != r.New {
		return changed("log_key.verify", "the log's key", current.VerifierKey(), r)
	}
	file, err := l.export(ctx)
	if err != nil {
		return err
	}
	if _, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: r.New}); err != nil {
		return err
	}
	report, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: r.Old})
	if err != nil {
		return err
	}
	if !slices.Contains(report.HandedTo, r.New) || report.VerifierKey != r.New {
		return cred.Errorf(cred.Invalid, "log_key.verify", "an export does not lead from the old key to the new one", "led to %v", report.HandedTo)
	}
	return nil
}

// export is an export of no entries: a checkpoint and how the log came to its key.
func (l *LogKey) export(ctx context.Context) ([]byte, error) {
	c, err := l.cfg.Log.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	end, err := l.cfg.Log.Trailer(ctx, c)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	if err != nil {
		return nil, err
	}
	if err := x.Close(end); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

// Retire implements issuer.Rotator: the old key leaves the file.
func (l *LogKey) Retire(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	current, _, err := l.read()
	if err != nil {
		return r, err
	}
	if current.VerifierKey() != r.New {
		return r, changed("log_key.retire", "the log's key", current.VerifierKey(), r)
	}
	return r, l.write(current, nil)
}

// Undo implements issuer.Rotator. What the log says it goes on to say: where the new key was in use, the
// log is handed over once more, back to the old one. A log that somebody else has handed over stays as it
// is.
func (l *LogKey) Undo(ctx context.Context, r issuer.Rotation) error { return undone(l.undo(ctx, r)) }

func (l *LogKey) undo(ctx context.Context, r issuer.Rotation) error {
	current, other, err := l.read()
	switch {
	case err != nil:
		return err
	case r.Old == "" || current.VerifierKey() == r.Old:
		return l.write(current, nil)
	case current.VerifierKey() != r.New:
		return nil
	case other == nil || other.VerifierKey() != r.Old:
		return gone("log_key.undo", "the log's key "+r.Old)
	}
	if err := l.cfg.Log.HandOver(ctx, other, l.cfg.Now()); err != nil {
		return err
	}
	return midway(l.write(other, nil))
}
