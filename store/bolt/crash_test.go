package bolt

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/storetest"
)

// childEnv makes the test binary a child of TestCrash: its value is "signer path".
const childEnv = "DAYPASS_TEST_BOLT_CHILD"

const crashWriters = 4

// TestCrash kills a process that writes, again and again on the same file, at whatever it is doing.
// Whatever it had acknowledged is there with its entry, and nothing is there in part.
func TestCrash(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	signer, path := newSigner(t), filepath.Join(t.TempDir(), "store.db")
	acknowledged := map[string]int{} // of each writer
	for round := range 20 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"="+signer.Encode().RevealString()+" "+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() { // it writes
			t.Fatalf("round %d: the child did not begin: %v", round, cmd.Wait())
		}
		for first := true; first || lines.Scan(); first = false {
			writer, n, _ := strings.Cut(lines.Text(), " ")
			if acknowledged[writer], err = strconv.Atoi(n); err != nil {
				t.Fatalf("round %d: the child says %q", round, lines.Text())
			}
			if first {
				time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Fatalf("round %d: the child ended with %v", round, err)
		}
		checkCrashed(t, round, path, signer, acknowledged)
	}
}

// checkCrashed opens what a child left and compares records, entries and acknowledgements.
func checkCrashed(t *testing.T, round int, path string, signer *audit.Signer, acknowledged map[string]int) {
	t.Helper()
	s, err := Open(path, signer, Options{})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer func() { _ = s.Close() }()
	entries := map[string][]string{}
	for _, grant := range storetest.VerifyLog(t, s.Log()) {
		writer, n, _ := strings.Cut(grant, " ")
		entries[writer] = append(entries[writer], n)
	}
	err = s.View(context.Background(), func(tx store.Tx) error {
		for w := range crashWriters {
			writer := strconv.Itoa(w)
			r, err := tx.Get(store.Key{Table: store.Grants, ID: writer})
			if err != nil && cred.KindOf(err) != cred.NotFound {
				return err
			}
			n := int(r.Rev)
			if n < acknowledged[writer] || n > acknowledged[writer]+1 {
				t.Errorf("round %d: writer %s has %d writes, and %d were acknowledged", round, writer, n, acknowledged[writer])
			}
			acknowledged[writer] = n
			var want []string
			for i := range n {
				want = append(want, strconv.Itoa(i+1))
			}
			if !slices.Equal(want, entries[writer]) {
				t.Errorf("round %d: writer %s has %d writes and %d entries", round, writer, n, len(entries[writer]))
			}
			if n > 0 && (string(r.Value) != strings.Repeat("v", n*10) || r.DueMillis() != uint64(n)) {
				t.Errorf("round %d: writer %s: write %d has %d bytes, due %v", round, writer, n, len(r.Value), r.Due)
			}
		}
		n := 0
		for _, err := range tx.Scan(store.Query{Table: store.Grants, DueBy: time.UnixMilli(1 << 40)}) {
			if err != nil {
				return err
			}
			n++
		}
		if n > crashWriters {
			t.Errorf("round %d: the index has %d rows", round, n)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
}

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		fmt.Println(writeUntilKilled(arg))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// writeUntilKilled writes from several goroutines and says on the standard output what it was told
// is durable.
func writeUntilKilled(arg string) error {
	key, path, _ := strings.Cut(arg, " ")
	signer, err := audit.ParseSigner(cred.SecretString(key))
	if err != nil {
		return err
	}
	s, err := Open(path, signer, Options{})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		wg.Go(func() { errs <- writeOn(s, strconv.Itoa(w)) })
	}
	return <-errs
}

func writeOn(s store.Store, writer string) error {
	k := store.Key{Table: store.Grants, ID: writer}
	for {
		n := 0
		err := s.Update(context.Background(), func(tx store.Tx) error {
			r, err := tx.Get(k)
			if err != nil && cred.KindOf(err) != cred.NotFound {
				return err
			}
			n = int(r.Rev) + 1
			r.Value, r.Due = []byte(strings.Repeat("v", n*10)), time.UnixMilli(int64(n))
			if err := tx.Put(r); err != nil {
				return err
			}
			return tx.Append(audit.Event{Kind: audit.ExchangeGranted, Time: time.Now(), Grant: cred.GrantID(fmt.Sprint(writer, " ", n))})
		})
		if err != nil {
			return err
		}
		fmt.Println(writer, n)
	}
}
