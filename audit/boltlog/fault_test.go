package boltlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// TestLocked: a second process, here a second opening, is told so and does not hang.
func TestLocked(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	l := openLog(t, path, s)
	_, err := Open(path, s, Options{LockTimeout: time.Millisecond})
	wantError(t, err, cred.Unavailable, reasonLocked)
	mustAppend(t, l, event(0))
}

func TestFileMode(t *testing.T) {
	path := logPath(t)
	openLog(t, path, newSigner(t))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestNoDirectory(t *testing.T) {
	_, err := Open(logPath(t)+"/missing/audit.db", newSigner(t), Options{})
	wantError(t, err, cred.Invalid, "LOG_NOT_OPENED")
}

func TestOtherOrigin(t *testing.T) {
	path := logPath(t)
	closeWith(t, path, newSigner(t), 3, nil)
	other, err := audit.GenerateSigner("daypass.example.com/other")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, other, Options{})
	wantError(t, err, cred.Invalid, reasonOrigin)
	for _, name := range []string{path, origin, "daypass.example.com/other"} {
		if !strings.Contains(cred.PublicText(err), name) {
			t.Errorf("%q does not name %s", cred.PublicText(err), name)
		}
	}
}

// closeWith makes a log of n entries, changes its file with bbolt alone, and leaves it closed.
func closeWith(t testing.TB, path string, s *audit.Signer, n int, change func(*bbolt.Tx) error) {
	t.Helper()
	l, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		mustAppend(t, l, event(i))
	}
	if change != nil {
		if err := l.db.Update(change); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNewerFormat(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	closeWith(t, path, s, 1, func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Put(keyVersion, be(formatVersion+1)) })
	_, err := Open(path, s, Options{})
	wantError(t, err, cred.Invalid, reasonNewer)
	for _, version := range []string{"format 5", "up to 4"} {
		if !strings.Contains(cred.PublicText(err), version) {
			t.Errorf("%q does not say %q", cred.PublicText(err), version)
		}
	}
}

func TestOlderFormat(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	closeWith(t, path, s, 1, func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Put(keyVersion, be(versionPlain-1)) })
	_, err := Open(path, s, Options{})
	wantError(t, err, cred.Invalid, reasonOlder)
}

// TestDamagedLog: a log whose end does not hold together is not opened.
func TestDamagedLog(t *testing.T) {
	const n = 13
	// row changes a row: hashes of 32 bytes each, then the entry.
	row := func(seq uint64, change func([]byte) []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketEntries)
			return b.Put(be(seq), change(bytes.Clone(b.Get(be(seq)))))
		}
	}
	flip := func(at int) func([]byte) []byte { return func(row []byte) []byte { row[at] ^= 1; return row } }
	cut := func(n int) func([]byte) []byte { return func(row []byte) []byte { return row[:n] } }
	remove := func(seq uint64) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucketEntries).Delete(be(seq)) }
	}
	size := func(b []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Put(keySize, b) }
	}
	for name, change := range map[string]func(*bbolt.Tx) error{
		"entry changed":        row(n-1, flip(32+9)),
		"earlier entry":        row(3, flip(3*32+9)),
		"entry cut":            row(3, cut(3*32+9)),
		"entry empty":          row(3, cut(3*32)),
		"last entry removed":   remove(n - 1),
		"first entry removed":  remove(0),
		"middle entry removed": remove(5),
		"hash changed":         row(n-1, flip(0)),
		"inner hash changed":   row(7, flip(3*32)),
		"hash row short":       row(7, cut(32)),
		"row empty":            row(7, cut(0)),
		"entry added": func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketEntries)
			return b.Put(be(n), b.Get(be(n-1)))
		},
		"size too small":    size(be(n - 1)),
		"size too large":    size(be(n + 1)),
		"size zero":         size(be(0)),
		"size malformed":    size([]byte("13")),
		"size missing":      func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Delete(keySize) },
		"version malformed": func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Put(keyVersion, []byte("1")) },
		"version zero":      func(tx *bbolt.Tx) error { return tx.Bucket(bucketHead).Put(keyVersion, be(0)) },
		"no entries":        func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketEntries) },
	} {
		t.Run(name, func(t *testing.T) {
			path, s := logPath(t), newSigner(t)
			closeWith(t, path, s, n, change)
			_, err := Open(path, s, Options{LockTimeout: time.Second})
			wantError(t, err, cred.Internal, reasonDamaged)
			_, err = Open(path, s, Options{LockTimeout: time.Second}) // and it is not kept locked
			wantError(t, err, cred.Internal, reasonDamaged)
		})
	}
}

// TestDamagedFile: neither is a file that is cut or overwritten.
func TestDamagedFile(t *testing.T) {
	used := 0 // what bbolt knows of the file, which is less than its length
	page := os.Getpagesize()
	for name, change := range map[string]func(b []byte) []byte{
		"one page":          func(b []byte) []byte { return b[:page] },
		"two pages":         func(b []byte) []byte { return b[:2*page] },
		"three pages":       func(b []byte) []byte { return b[:3*page] },
		"cut in the middle": func(b []byte) []byte { return b[:12*page] },
		"not bbolt":         func(b []byte) []byte { return []byte(strings.Repeat("not a log ", page)) },
		"a few bytes":       func([]byte) []byte { return []byte("not a log") },
		"one byte short":    func(b []byte) []byte { return b[:used-1] },
		"zeroed behind meta": func(b []byte) []byte {
			clear(b[2*page:])
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, s := logPath(t), newSigner(t)
			closeWith(t, path, s, 60, nil)
			closeWith(t, path, s, 0, func(tx *bbolt.Tx) error { used = int(tx.Size()); return nil })
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(path, s, Options{})
			wantError(t, err, cred.Internal, reasonDamaged)
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%q does not name the file", err)
			}
		})
	}
}

// TestCommitFails: nothing has happened, reads go on, and the next write works.
func TestCommitFails(t *testing.T) {
	l := openLog(t, logPath(t), newSigner(t))
	mustAppend(t, l, event(0))
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error { return errors.Join(errors.New("disk full"), tx.Rollback()) }
	_, err := l.Append(t.Context(), event(1))
	wantError(t, err, cred.Unavailable, reasonWrite)
	verify(t, l)
	l.commit = commit
	if seq := mustAppend(t, l, event(2)); seq != 1 {
		t.Errorf("entry %d, want 1", seq)
	}
	verify(t, l)
}

// TestCommitUncertain: the change is in the file, and its sync has failed. Then nothing promises it,
// and nothing is written on top of it.
func TestCommitUncertain(t *testing.T) {
	path, s := logPath(t), newSigner(t)
	l, err := Open(path, s, Options{noSync: true})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event(0))
	commit := l.commit
	l.commit = func(tx *bbolt.Tx) error { return errors.Join(errors.New("sync failed"), commit(tx)) }
	_, err = l.Append(t.Context(), event(1))
	wantError(t, err, cred.Unavailable, reasonUncertain)
	l.commit = commit
	_, err = l.Append(t.Context(), event(2))
	wantError(t, err, cred.Unavailable, reasonUncertain)
	if c, err := l.Checkpoint(t.Context()); err != nil || c.Size != 1 {
		t.Errorf("a checkpoint of %d entries, %v; want 1", c.Size, err)
	}
	if all := collect(t, l, 0, 5); len(all) != 1 {
		t.Errorf("%d entries, want 1", len(all))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path, s)
	if seq := mustAppend(t, l, event(3)); seq != 2 {
		t.Errorf("after opening anew: entry %d, want 2", seq)
	}
	verify(t, l)
}

// childEnv makes the test binary a child of TestDiskFull: its value is "signer path".
const childEnv = "DAYPASS_TEST_BOLTLOG_CHILD"

// TestDiskFull lets a child run into a limit on the size of its files, which to a writer is a full
// disk, and lifts it again.
func TestDiskFull(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, path := newSigner(t), logPath(t)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+s.Encode().RevealString()+" "+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	verify(t, openLog(t, path, s))
}

func runChild(arg string) int {
	key, path, _ := strings.Cut(arg, " ")
	if err := fillDisk(key, path); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// fillDisk appends until it fails, looks around, and goes on when there is space.
func fillDisk(key, path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := audit.ParseSigner(cred.SecretString(key))
	if err != nil {
		return err
	}
	l, err := Open(path, s, Options{noSync: true})
	if err != nil {
		return err
	}
	l.db.AllocSize = 1 // else the first growth, of 16 MiB, is over the limit
	for round := range 3 {
		acknowledged, _ := l.Size()
		if err := limitFiles(uint64(round+1) * 256 << 10); err != nil {
			return err
		}
		failures := 0
		for failures < 3 {
			_, err := l.Append(context.Background(), event(0), event(1), event(2))
			switch {
			case err == nil: // even after a failure there may be just room enough
				acknowledged += 3
			case cred.KindOf(err) != cred.Unavailable:
				return fmt.Errorf("round %d: %w", round, err)
			default:
				failures++
			}
		}
		if err := readAll(l, acknowledged); err != nil {
			return fmt.Errorf("round %d, while the disk is full: %w", round, err)
		}
	}
	if err := limitFiles(1 << 40); err != nil {
		return err
	}
	if _, err := l.Append(context.Background(), event(3)); err != nil {
		return fmt.Errorf("with space again: %w", err)
	}
	return l.Close()
}

// readAll checks that a log has a number of entries, and can prove them.
func readAll(l *Log, want uint64) error {
	var n uint64
	for _, err := range l.Entries(context.Background(), 0, 1<<62) {
		if err != nil {
			return err
		}
		n++
	}
	c, err := l.Checkpoint(context.Background())
	if err != nil || n != want || c.Size != want {
		return fmt.Errorf("%d entries, checkpoint of %d, want %d: %w", n, c.Size, want, err)
	}
	return nil
}

func limitFiles(size uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}
