package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Check reads the secret, opens with it what it opens, and asks the opener what would hinder.
func (k *rotator) Check(ctx context.Context, r issuer.Rotation) ([]cred.Finding, error) {
	current, version, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	findings := []cred.Finding{{Name: "secret", OK: true, Text: fmt.Sprintf("version %d, with %d fields", version, len(current))}}
	switch err := k.cfg.Opener.Works(ctx, current); {
	case err == nil:
		findings = append(findings, cred.Finding{Name: "works", OK: true, Text: "what it opens takes it today"})
	case cred.KindOf(err) == cred.Unavailable:
		return nil, err
	default:
		findings = append(findings, cred.Finding{Name: "works", Text: cred.PublicText(err)})
		return findings, nil
	}
	if c, ok := k.cfg.Opener.(Checker); ok {
		more, err := c.Check(ctx, r, current)
		return append(findings, more...), err
	}
	return findings, nil
}

// Prepare notes what opens today, and what the opener says will open next. The opener has not heard of
// it yet, unless it is one that makes the next secret itself and finds it again.
func (k *rotator) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	current, version, err := k.read(ctx)
	if err != nil {
		return r, err
	}
	r.Notes = maps.Clone(r.Notes)
	if r.Notes == nil {
		r.Notes = map[string]cred.Secret{}
	}
	r.Notes[noteOld] = encode(current)
	r.Notes[noteVersion] = cred.SecretString(strconv.Itoa(version))
	r.Old = "version " + strconv.Itoa(version)
	next, err := k.cfg.Opener.Next(ctx, r, maps.Clone(current))
	if err != nil {
		return r, ours("kv.prepare", err)
	}
	if len(next) > 0 {
		r.Notes[noteNew] = encode(merge(current, next))
	}
	return r, nil
}

// Switch makes the new secret open and puts it into KV, in the order that the opener has chosen. What
// the opener learns stands in the rotation that is returned, also where an error comes with it.
func (k *rotator) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	j, err := readNotes(r)
	if err != nil {
		return r, err
	}
	w := &writer{k: k, from: j.old, cas: j.version}
	if j.new == nil && r.Attempt > 1 {
		if j.new, err = k.written(ctx, j); err != nil {
			return r, err
		}
		r.Notes = withNote(r.Notes, noteNew, j.new)
	}
	learned, err := k.cfg.Opener.Change(ctx, r, j.old, maps.Clone(j.new), w.put)
	if len(learned) > 0 {
		if j.new == nil {
			j.new = j.old
		}
		j.new = merge(j.new, learned)
		r.Notes = withNote(r.Notes, noteNew, j.new)
	}
	if err != nil {
		return r, ours("kv.switch", err)
	}
	if w.version == 0 {
		return r, cred.Errorf(cred.Internal, "kv.switch", "", "kv: the opener did not put the new secret into KV")
	}
	r.New = "version " + strconv.Itoa(w.version)
	r.RetireAfter = k.now().Add(k.cfg.Overlap)
	return r, nil
}

// written returns what an earlier try of Switch has put into KV and did not live to tell; nil for
// nothing.
func (k *rotator) written(ctx context.Context, j journal) (Values, error) {
	current, version, err := k.read(ctx)
	if err != nil || version == j.version || same(current, j.old) {
		return nil, err
	}
	return current, nil
}

func withNote(notes map[string]cred.Secret, name string, v Values) map[string]cred.Secret {
	if v == nil {
		return notes
	}
	notes = maps.Clone(notes)
	notes[name] = encode(v)
	return notes
}

// Verify reads the secret back from KV and uses it.
func (k *rotator) Verify(ctx context.Context, r issuer.Rotation) error {
	j, err := readNotes(r)
	if err != nil {
		return err
	}
	current, _, err := k.read(ctx)
	if err != nil {
		return err
	}
	if !same(current, j.new) {
		return somebodyElse("kv.verify")
	}
	if err := k.cfg.Opener.Works(ctx, current); err != nil {
		return ours("kv.verify", err)
	}
	if k.cfg.Verify == nil {
		return nil
	}
	if err := k.cfg.Verify(ctx, cred.Credential{Type: typeOf(current), Fields: current}); err != nil {
		return ours("kv.verify", err)
	}
	return nil
}

// Retire ends the old secret where it was used, and then destroys its versions in KV. Before either it
// looks whether KV still holds the new one: who has put the old one back still needs it, and the new one's
// version, which is the way forward, is among those that would be destroyed. A write that comes later than
// the second look is left alone, as the versions to destroy are numbered by that look.
func (k *rotator) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	j, err := readNotes(r)
	if err != nil {
		return r, err
	}
	if _, err := k.inUse(ctx, r, j); err != nil {
		return r, err
	}
	if err := k.cfg.Opener.End(ctx, r, j.new, j.old); err != nil {
		return r, ours("kv.retire", err)
	}
	version, err := k.inUse(ctx, r, j)
	if err != nil {
		return r, err
	}
	if gone := outdated(version, k.cfg.KeepVersions); len(gone) > 0 {
		if err := k.cfg.Keeper.DestroyKV(ctx, k.cfg.Path, gone); err != nil {
			return r, ours("kv.retire", err)
		}
	}
	return r, nil
}

// inUse makes sure that KV holds what the rotation has changed, and returns the current version. Other
// fields are nobody's business but their writer's.
func (k *rotator) inUse(ctx context.Context, r issuer.Rotation, j journal) (version int, err error) {
	current, version, err := k.read(ctx)
	if err != nil {
		return 0, err
	}
	if holds(current, changed(j.old, j.new)) {
		return version, nil
	}
	whose := "neither the old secret nor the new one"
	if holds(current, changed(j.new, j.old)) {
		whose = "the old secret"
	}
	return 0, &cred.Error{
		Kind: cred.Conflict, Op: "kv.retire", Reason: "SECRET_CHANGED",
		Public: fmt.Sprintf("somebody has changed the secret in Vault since it was rotated: %s stands there in version %d; nothing more is ended or destroyed until %s is put back (vault kv rollback), so look who writes there",
			whose, version, r.New),
	}
}

// outdated returns the versions before the last that are kept.
func outdated(current, keep int) (gone []int) {
	last := current - keep
	for v := max(1, last-maxVersions+1); v <= last; v++ {
		gone = append(gone, v)
	}
	return gone
}

// Undo puts the old secret back, at what it opens and in KV, and ends the new one.
func (k *rotator) Undo(ctx context.Context, r issuer.Rotation) error {
	if _, begun := r.Notes[noteOld]; !begun {
		return k.undoUnjournaled(ctx, r)
	}
	j, err := readNotes(r)
	if err != nil {
		return err
	}
	w := &writer{k: k, from: j.new}
	if j.new == nil {
		w.from = j.old // what we don't know we don't overwrite
	}
	if u, ok := k.cfg.Opener.(Undoer); ok {
		if err := u.Undo(ctx, r, j.old, j.new, w.put); err != nil {
			return ours("kv.undo", err)
		}
		return nil
	}
	if _, err := k.cfg.Opener.Change(ctx, r, j.new, j.old, w.put); err != nil {
		return ours("kv.undo", err)
	}
	if err := k.cfg.Opener.End(ctx, r, j.old, j.new); err != nil {
		return ours("kv.undo", err)
	}
	return nil
}

// undoUnjournaled ends what a Prepare may have made that was never noted. KV was not touched.
func (k *rotator) undoUnjournaled(ctx context.Context, r issuer.Rotation) error {
	current, _, err := k.read(ctx)
	if err != nil {
		return err
	}
	if u, ok := k.cfg.Opener.(Undoer); ok {
		w := &writer{k: k, from: current}
		if err := u.Undo(ctx, r, current, nil, w.put); err != nil {
			return ours("kv.undo", err)
		}
		return nil
	}
	if err := k.cfg.Opener.End(ctx, r, current, nil); err != nil {
		return ours("kv.undo", err)
	}
	return nil
}

func (k *rotator) read(ctx context.Context) (Values, int, error) {
	current, version, err := k.cfg.Keeper.ReadKV(ctx, k.cfg.Path)
	if err != nil {
		return nil, 0, ours("kv.read", err)
	}
	if len(current) == 0 || version < 1 {
		return nil, 0, &cred.Error{
			Kind: cred.Invalid, Op: "kv.read", Reason: "SECRET_MISSING",
			Public: "the secret in Vault has no current version with fields; write the one that works today there first",
		}
	}
	return current, version, nil
}

// writer puts one secret into KV in the place of another.
type writer struct {
	k       *rotator
	from    Values // what may stand there; nil: nobody knows
	cas     int    // the version of from; zero: that which is found
	version int    // of what was put; zero: nothing was yet
}

// put looks before it writes, so that a write whose answer was lost is not done twice, and a third
// secret, which somebody else wrote, is left alone.
func (w *writer) put(ctx context.Context, v Values) error {
	current, version, err := w.k.read(ctx)
	if err != nil {
		return err
	}
	switch {
	case same(current, v):
		w.version = version
		return nil
	case w.from != nil && !same(current, w.from), w.cas != 0 && version != w.cas:
		return somebodyElse("kv.write")
	}
	written, err := w.k.cfg.Keeper.WriteKV(ctx, w.k.cfg.Path, v, version)
	if err == nil {
		w.version = written
		return nil
	}
	// Below us a write may have been sent twice and the second one refused: look once more.
	if current, version, again := w.k.read(ctx); again == nil && same(current, v) {
		w.version = version
		return nil
	}
	return ours("kv.write", err)
}

func somebodyElse(op string) error {
	return &cred.Error{
		Kind: cred.Conflict, Op: op, Reason: "SECRET_CHANGED",
		Public: "somebody else has changed the secret in Vault during its rotation; look who writes there",
	}
}

// ours makes sure that an error is a *cred.Error. Of a strange one nobody knows what it means, so it
// may have been done.
func ours(op string, err error) error {
	if _, ok := errors.AsType[*cred.Error](err); ok {
		return err
	}
	return &cred.Error{Kind: cred.Unavailable, Op: op, Public: "what this secret opens, or Vault, does not answer as it should; the broker tries again", Err: err}
}

// typeOf tells the type of the credential that a secret is.
func typeOf(v Values) cred.CredentialType {
	_, password := v["password"]
	_, token := v["token"]
	switch {
	case password:
		return cred.UserPassword
	case token:
		return cred.Bearer
	}
	return ""
}
