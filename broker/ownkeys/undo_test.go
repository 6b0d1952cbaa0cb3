package ownkeys

import (
	"context"
	"os"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Where the files of a key can't be read Undo is tried again: it must not say that the old key is no
// more, after which there would be no way back. Once they are in order it is done.
func TestUndoWaitsForItsFiles(t *testing.T) {
	sealed, logs, ca := newWorld(t), newLogWorld(t), newCAWorld(t)
	running := sealed.sealer(nil) // a process that has read its file
	for name, c := range map[string]struct {
		file string
		x    func() issuer.Rotator
	}{
		"sealing key": {sealed.keyFile, func() issuer.Rotator { return running }},
		"log key":     {logs.keyFile, func() issuer.Rotator { return logs.rotator() }},
		"CA":          {ca.path("ca.pem"), func() issuer.Rotator { return ca.rotator(nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := &rotation{t: t, x: c.x, r: issuer.Rotation{ID: "rot-1"}}
			d.done("prepare")
			away := c.file + ".away"
			if err := os.Rename(c.file, away); err != nil {
				t.Fatal(err)
			}
			if err := d.act("undo", 1); cred.KindOf(err) != cred.Unavailable {
				t.Errorf("without its file: %v, want Unavailable", err)
			}
			if err := os.Rename(away, c.file); err != nil {
				t.Fatal(err)
			}
			d.done("undo")
		})
	}
}

// A rotation whose key somebody else has changed has nothing to undo: it ends, so that a new one can begin.
func TestUndoOfWhatWasOvertaken(t *testing.T) {
	sealed, logs := newWorld(t), newLogWorld(t)
	for name, c := range map[string]struct {
		x    func() issuer.Rotator
		take func() error
	}{
		"sealing key": {func() issuer.Rotator { return sealed.sealer(nil) }, func() error {
			id, err := sealed.sealing.Extend()
			if err != nil {
				return err
			}
			return sealed.sealing.Use(id)
		}},
		"log key": {func() issuer.Rotator { return logs.rotator() }, func() error {
			r, err := logs.rotator().Prepare(context.Background(), issuer.Rotation{ID: "rot-2"})
			if err != nil {
				return err
			}
			_, err = logs.rotator().Switch(context.Background(), r)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.take(); err != nil {
				t.Fatal(err)
			}
			d := &rotation{t: t, x: c.x, r: issuer.Rotation{ID: "rot-1", Old: "0000000a", New: "0000000b"}}
			if err := d.act("switch", 1); cred.KindOf(err) != cred.Invalid {
				t.Errorf("switch: %v, want Invalid", err)
			}
			for attempt := 1; attempt <= 2; attempt++ {
				if err := d.act("undo", attempt); err != nil {
					t.Errorf("undo: %v", err)
				}
			}
		})
	}
}
