package ownkeys

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// logWorld is a log and its key in files. Its log can be closed and opened anew.
type logWorld struct {
	t       testing.TB
	keyFile string
	path    string
	log     *boltlog.Log
	first   string // the verifier key that auditors pinned in the beginning

	mu    sync.Mutex
	fault func(before bool) error // of HandOver; nil: none
}

func newLogWorld(t testing.TB) *logWorld {
	t.Helper()
	dir := t.TempDir()
	w := &logWorld{t: t, keyFile: filepath.Join(dir, "log.key"), path: filepath.Join(dir, "log.db")}
	s, err := audit.GenerateSigner("daypass.example.com/log")
	w.must(err)
	w.must(keyfile.Create(w.keyFile, s.Encode()))
	w.first = s.VerifierKey()
	w.open()
	t.Cleanup(func() { _ = w.log.Close() })
	return w
}

func (w *logWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// open opens the log with what stands in the key file, as a process that starts does.
func (w *logWorld) open() {
	w.t.Helper()
	text, err := keyfile.Read(w.keyFile)
	w.must(err)
	s, err := audit.ParseSigner(text)
	w.must(err)
	w.log, err = boltlog.Open(w.path, s, boltlog.Options{})
	w.must(err)
}

func (w *logWorld) reopen() {
	w.t.Helper()
	w.must(w.log.Close())
	w.open()
}

// HandOver is the log's, with faults.
func (w *logWorld) HandOver(ctx context.Context, next *audit.Signer, at time.Time) error {
	w.mu.Lock()
	fault := w.fault
	w.fault = nil
	w.mu.Unlock()
	if fault != nil {
		if err := fault(true); err != nil {
			return err
		}
	}
	err := w.log.HandOver(ctx, next, at)
	if fault != nil {
		err = errors.Join(fault(false), err)
	}
	return err
}

func (w *logWorld) Signer() *audit.Signer { return w.log.Signer() }

func (w *logWorld) Checkpoint(ctx context.Context) (audit.Checkpoint, error) {
	return w.log.Checkpoint(ctx)
}

func (w *logWorld) Trailer(ctx context.Context, c audit.Checkpoint) (audit.Trailer, error) {
	return w.log.Trailer(ctx, c)
}

func (w *logWorld) rotator() *LogKey {
	w.t.Helper()
	l, err := NewLogKey(LogConfig{Log: w, File: w.keyFile, Now: time.Now})
	w.must(err)
	return l
}

func (w *logWorld) append() {
	w.t.Helper()
	_, err := w.log.Append(context.Background(), audit.Event{Kind: audit.BrokerStarted, Time: time.Now().UTC()})
	w.must(err)
}

// export exports the whole log.
func (w *logWorld) export() []byte {
	w.t.Helper()
	ctx := context.Background()
	c, err := w.log.Checkpoint(ctx)
	w.must(err)
	end, err := w.log.Trailer(ctx, c)
	w.must(err)
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	w.must(err)
	for e, err := range w.log.Entries(ctx, 0, c.Size) {
		w.must(err)
		w.must(x.Write(e))
	}
	w.must(x.Close(end))
	return file.Bytes()
}

// works verifies the whole log with the key that was pinned in the beginning and with that of now, after
// a restart of its process.
func (w *logWorld) works() error {
	w.append()
	w.reopen()
	for _, key := range []string{w.first, w.log.VerifierKey()} {
		if _, err := audit.Verify(bytes.NewReader(w.export()), audit.VerifyOptions{VerifierKey: key}); err != nil {
			return err
		}
	}
	return nil
}

// keys are those that stand in the key file.
func (w *logWorld) keys() []string {
	w.t.Helper()
	text, err := os.ReadFile(w.keyFile)
	w.must(err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestLogKeyContract(t *testing.T) {
	w := newLogWorld(t)
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New:   func(*testing.T, string) issuer.Rotator { return w.rotator() },
		Fresh: func(*testing.T) { w.append() },
		Root:  func(context.Context) (string, error) { return w.log.VerifierKey(), nil },
		Works: func(context.Context) error { return w.works() },
		Alive: func(context.Context) (int, error) { return len(w.keys()), nil },
		Secrets: func(context.Context) []string {
			var all []string
			for _, key := range w.keys() {
				all = append(all, key[strings.LastIndex(key, "+")+1:])
			}
			return all
		},
	})
}

// TestLogKeyDies: the process dies at each place, between file and log too; the log then opens with the
// file as it is, with the right key, and the rotation goes on to its end, or back.
func TestLogKeyDies(t *testing.T) {
	died := &cred.Error{Kind: cred.Unavailable, Op: "test", Public: "dead"}
	for name, fault := range map[string]func(w *logWorld) func(bool) error{
		"before the log": func(*logWorld) func(bool) error {
			return func(before bool) error {
				if before {
					return died
				}
				return nil
			}
		},
		"after the log": func(*logWorld) func(bool) error {
			return func(before bool) error {
				if before {
					return nil
				}
				return died
			}
		},
	} {
		for _, end := range []string{"forward", "back"} {
			t.Run(name+", "+end, func(t *testing.T) {
				w := newLogWorld(t)
				w.append()
				d := &rotation{t: t, x: func() issuer.Rotator { w.reopen(); return w.rotator() }, r: issuer.Rotation{ID: "rot-1"}}
				d.done("check", "prepare")
				w.fault = fault(w)
				if err := d.act("switch", 1); cred.KindOf(err) != cred.Unavailable {
					t.Fatalf("switch: %v", err)
				}
				w.must(w.works())
				if len(w.keys()) != 2 {
					t.Errorf("the file has %d keys, want both", len(w.keys()))
				}
				if end == "back" {
					w.fault = fault(w)
					_ = d.act("undo", 1)
					w.must(w.works())
					d.done("undo")
				} else {
					d.done("switch", "verify", "retire")
				}
				w.must(w.works())
				if want := map[string]string{"back": w.first, "forward": d.r.New}[end]; w.log.VerifierKey() != want || len(w.keys()) != 1 {
					t.Errorf("the log is signed by %s, want %s; %d keys in the file", w.log.VerifierKey(), want, len(w.keys()))
				}
			})
		}
	}
}

// TestLogKeyFileDiffers: a file without the key in use stops a rotation before it begins.
func TestLogKeyFileDiffers(t *testing.T) {
	w := newLogWorld(t)
	other, err := audit.GenerateSigner("daypass.example.com/log")
	w.must(err)
	w.must(keyfile.Replace(w.keyFile, other.Encode()))
	findings, err := w.rotator().Check(t.Context(), issuer.Rotation{})
	if err != nil || findings[0].OK || !strings.Contains(findings[0].Text, w.keyFile) {
		t.Errorf("%+v, %v", findings, err)
	}
	for name, want := range map[string]cred.Kind{
		"prepare": cred.Invalid, "switch": cred.Invalid, "retire": cred.Invalid,
		"undo": cred.Unavailable, // Invalid would say that the old key is no more
	} {
		d := &rotation{t: t, x: func() issuer.Rotator { return w.rotator() }}
		if err := d.act(name, 1); cred.KindOf(err) != want {
			t.Errorf("%s: %v, want the kind %v", name, err, want)
		}
	}
}

// TestLogKeyFileFails: where the file can't be brought up to date after the hand-over, Switch is tried
// again, and the log opens all the same.
func TestLogKeyFileFails(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	w := newLogWorld(t)
	d := &rotation{t: t, x: func() issuer.Rotator { return w.rotator() }}
	d.done("prepare")
	dir := filepath.Dir(w.keyFile)
	w.must(os.Chmod(dir, 0o500))
	err := d.act("switch", 1)
	w.must(os.Chmod(dir, 0o700))
	if cred.KindOf(err) != cred.Unavailable {
		t.Errorf("switched: %v", err)
	}
	w.must(w.works())
	d.done("switch", "verify", "retire")
}

// TestLogKeyManyTimes: in whatever order acts and restarts come, whoever pinned any key of the past
// verifies the log, and the file opens it.
func TestLogKeyManyTimes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newLogWorld(t)
		defer w.log.Close()
		pinned := []string{w.first}
		r := issuer.Rotation{ID: "rot-1"}
		try := func(next issuer.Rotation, err error) {
			if err == nil {
				r = next
			}
		}
		ctx := context.Background()
		do := map[string]func(*rapid.T){
			"append":  func(*rapid.T) { w.append() },
			"restart": func(*rapid.T) { w.reopen() },
			"prepare": func(*rapid.T) { try(w.rotator().Prepare(ctx, r)) },
			"switch":  func(*rapid.T) { try(w.rotator().Switch(ctx, r)) },
			"retire":  func(*rapid.T) { try(w.rotator().Retire(ctx, r)) },
			"undo":    func(*rapid.T) { try(r, w.rotator().Undo(ctx, r)) },
			"": func(*rapid.T) {
				if now := w.log.VerifierKey(); !slices.Contains(pinned, now) {
					pinned = append(pinned, now)
				}
				file := w.export()
				for _, key := range pinned {
					if _, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: key}); err != nil {
						rt.Fatal(err)
					}
				}
			},
		}
		runAll(rt, do)
	})
}
