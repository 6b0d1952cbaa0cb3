package oauth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/oauth"
)

func refreshing(t *testing.T, base string, keep oauth.Keeper) *oauth.Issuer {
	t.Helper()
	cfg := plain(base, sealer(t))
	cfg.Grant, cfg.Keeper = oauth.RefreshToken, keep
	return open(t, cfg)
}

// TestRefreshKeepsOldToken holds that an answer without a refresh token leaves the old one in force.
func TestRefreshKeepsOldToken(t *testing.T) {
	s := newServer(t)
	keep := &memory{kept: s.refresh}
	i := refreshing(t, s.URL, keep)
	for range 3 {
		if _, _, err := i.Issue(t.Context(), hour("read")); err != nil {
			t.Fatal(err)
		}
	}
	if keep.holds() != s.refresh || len(keep.saved) != 1 {
		t.Errorf("keeps another token, or saved %d times", len(keep.saved))
	}
}

// TestRefreshRotates has many callers at once at a server that takes each refresh token once.
func TestRefreshRotates(t *testing.T) {
	s := newServer(t)
	s.rotates = true
	keep := &memory{kept: s.refresh}
	i := refreshing(t, s.URL, keep)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if c, _, err := i.Issue(t.Context(), hour("read")); err != nil || s.works(t.Context(), c) != nil {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if keep.holds() != s.refresh {
		t.Error("what is kept is not what the server has")
	}
}

// TestSuccessorIsKeptBeforeUse holds that an unsaved refresh token is never sent.
func TestSuccessorIsKeptBeforeUse(t *testing.T) {
	s := newServer(t)
	s.rotates = true
	first := s.refresh
	keep := &memory{kept: first}
	i := refreshing(t, s.URL, keep)
	full := errors.New("disk full")
	s.set(func() { s.edit = func(map[string]any) { keep.fail(full) } }) // it fails once the server has rotated
	_, _, err := i.Issue(t.Context(), hour("read"))
	if n, _ := s.alive(t.Context()); cred.KindOf(err) != cred.Unavailable || !errors.Is(err, full) || n != 0 {
		t.Fatalf("%v, %d tokens live", err, n)
	}
	before := s.requests()
	if _, _, err := i.Issue(t.Context(), hour("read")); !errors.Is(err, issuer.ErrNotIssued) || s.requests() != before {
		t.Fatalf("%v, and %d requests were sent", err, s.requests()-before)
	}
	s.set(func() { s.edit = nil })
	keep.fail(nil)
	if _, _, err := i.Issue(t.Context(), hour("read")); err != nil {
		t.Errorf("with the disk mended: %v", err)
	}
	if keep.holds() != s.refresh || keep.holds() == first {
		t.Error("what is kept is not what the server has")
	}
}

// TestKeeperIsProvedFirst holds that a keeper that can't save is found out before a token is spent.
func TestKeeperIsProvedFirst(t *testing.T) {
	s := newServer(t)
	i := refreshing(t, s.URL, &memory{kept: s.refresh, fails: errors.New("read-only")})
	if _, _, err := i.Issue(t.Context(), hour("read")); !errors.Is(err, issuer.ErrNotIssued) || s.requests() != 0 {
		t.Errorf("%v after %d requests", err, s.requests())
	}
	if err := i.Check(t.Context()); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Check: %v", err)
	}
}

// TestOperatorsTokenWins holds that a token which an operator has put in is not overwritten by one that
// could not be saved.
func TestOperatorsTokenWins(t *testing.T) {
	s := newServer(t)
	s.rotates = true
	keep := &memory{kept: s.refresh}
	i := refreshing(t, s.URL, keep)
	s.set(func() { s.edit = func(map[string]any) { keep.fail(errors.New("disk full")) } })
	if _, _, err := i.Issue(t.Context(), hour("read")); err == nil {
		t.Fatal("issued")
	}
	fresh := rand.Text()
	s.set(func() { s.edit, s.refresh = nil, fresh })
	keep.fail(nil)
	if err := keep.Save(t.Context(), cred.SecretString(fresh)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.Issue(t.Context(), hour("read")); err != nil {
		t.Error(err)
	}
}

// TestLostRefreshAnswer loses the answer with which a refresh token was rotated: at a server that
// forgives, the next call goes well; at one that does not, the error says that a person has to act.
func TestLostRefreshAnswer(t *testing.T) {
	for name, grace := range map[string]int{"forgiving": 1, "strict": 0} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.set(func() { s.rotates, s.grace = true, grace })
			keep := &memory{kept: s.refresh}
			front := issuertest.NewFront(t, s.URL)
			i := refreshing(t, front.URL, keep)
			front.Break(issuertest.DoneLost, 1)
			_, _, err := i.Issue(t.Context(), hour("read"))
			if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
				t.Fatalf("the lost answer: %v", err)
			}
			_, _, err = i.Issue(t.Context(), hour("read"))
			if grace > 0 {
				if err != nil || keep.holds() != s.refresh {
					t.Errorf("the second call: %v", err)
				}
				return
			}
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Reason != "REFRESH_TOKEN_DEAD" || !errors.Is(err, issuer.ErrNotIssued) || !strings.Contains(err.Error(), "an answer was lost at") {
				t.Errorf("the second call: %v", err)
			}
		})
	}
}

// TestCallerLeaves holds that the answer to a request whose caller has left is used: its refresh token
// is kept, its access token revoked.
func TestCallerLeaves(t *testing.T) {
	s := newServer(t)
	s.rotates = true
	keep := &memory{kept: s.refresh}
	i := refreshing(t, s.URL, keep)
	ctx, leave := context.WithCancel(t.Context())
	hold := make(chan struct{})
	s.set(func() { s.edit = func(map[string]any) { leave(); <-hold } })
	_, _, err := i.Issue(ctx, hour("read"))
	close(hold)
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil { // waits for what is under way
		t.Fatal(err)
	}
	if n, _ := s.alive(t.Context()); n != 0 || keep.holds() != s.refresh {
		t.Errorf("%d tokens live, and the successor is kept: %v", n, keep.holds() == s.refresh)
	}
	if _, _, err := i.Issue(t.Context(), hour("read")); !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCallerLeavesTheQueue holds that one who waits behind a silent request goes at its own deadline
// and sends nothing.
func TestCallerLeavesTheQueue(t *testing.T) {
	s := newServer(t)
	hold, entered := make(chan struct{}), make(chan struct{})
	s.set(func() { s.edit = func(map[string]any) { close(entered); <-hold } })
	i := refreshing(t, s.URL, &memory{kept: s.refresh})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := i.Issue(t.Context(), hour("read")); err != nil {
			t.Error(err)
		}
	})
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := i.Issue(ctx, hour("read")); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("%v", err)
	}
	close(hold)
	wg.Wait()
	if n := s.requests(); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

func keptFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "refresh.token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileKeeper(t *testing.T) {
	path := keptFile(t, "one\n")
	k := oauth.NewFileKeeper(path)
	if got, err := k.Load(t.Context()); err != nil || got.RevealString() != "one" {
		t.Fatalf("%q, %v", got.RevealString(), err)
	}
	if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil { // what a crash leaves
		t.Fatal(err)
	}
	if err := k.Save(t.Context(), cred.SecretString("two")); err != nil {
		t.Fatal(err)
	}
	got, err := oauth.NewFileKeeper(path).Load(t.Context())
	if err != nil || got.RevealString() != "two" {
		t.Errorf("%q, %v", got.RevealString(), err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Load(t.Context()); err == nil {
		t.Error("reads a file that others may read")
	}
	if err := oauth.NewFileKeeper(filepath.Join(path, "below")).Save(t.Context(), cred.SecretString("x")); err == nil {
		t.Error("saved in a place that is no folder")
	}
}

func TestFileKeeperLock(t *testing.T) {
	path := keptFile(t, "one")
	unlock, err := oauth.NewFileKeeper(path).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	if _, err := oauth.NewFileKeeper(path).Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	again, err := oauth.NewFileKeeper(path).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// TestTwoIssuersOfOneFile holds that two processes' worth of issuers take turns at one file.
func TestTwoIssuersOfOneFile(t *testing.T) {
	s := newServer(t)
	s.rotates = true
	path := keptFile(t, s.refresh)
	both := []*oauth.Issuer{refreshing(t, s.URL, oauth.NewFileKeeper(path)), refreshing(t, s.URL, oauth.NewFileKeeper(path))}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if _, _, err := both[n%2].Issue(t.Context(), hour("read")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

const crashVariable = "DAYPASS_OAUTH_CRASH"

// TestCrash kills a process at each step of a save and wants the old token or the new one, whole, and
// that the next save goes well. The kill is real where the build has failpoints, and else a leftover.
func TestCrash(t *testing.T) {
	if path := os.Getenv(crashVariable); path != "" {
		err := oauth.NewFileKeeper(path).Save(t.Context(), cred.SecretString("two"))
		t.Fatalf("lived through it: %v", err)
	}
	if !failpoints {
		t.Skip("needs -tags failpoints")
	}
	for step, want := range map[string]string{"oauth.before-write": "one", "oauth.before-rename": "one", "oauth.after-rename": "two"} {
		t.Run(step, func(t *testing.T) {
			path := keptFile(t, "one")
			cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
			cmd.Env = slices.Concat(os.Environ(), []string{crashVariable + "=" + path, "DAYPASS_FAILPOINT=" + step})
			out, err := cmd.CombinedOutput()
			if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() {
				t.Fatalf("the child was not killed: %v\n%s", err, out)
			}
			k := oauth.NewFileKeeper(path)
			if got, err := k.Load(t.Context()); err != nil || got.RevealString() != want {
				t.Errorf("after the crash: %q, %v", got.RevealString(), err)
			}
			if err := k.Save(t.Context(), cred.SecretString("three")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnreadableSecret holds that the source is not asked without the secrets that it takes.
func TestUnreadableSecret(t *testing.T) {
	s := newServer(t)
	cfg := plain(s.URL, sealer(t))
	cfg.Client.Secret = func(context.Context) (cred.Secret, error) { return cred.Secret{}, os.ErrNotExist }
	i := open(t, cfg)
	if _, _, err := i.Issue(t.Context(), hour("read")); !errors.Is(err, issuer.ErrNotIssued) || s.requests() != 0 {
		t.Errorf("%v after %d requests", err, s.requests())
	}
	if err := i.Check(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Check: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "two lines": "one\ntwo", "a page": "<html> </html>"} {
		i := refreshing(t, s.URL, &memory{kept: content})
		if _, _, err := i.Issue(t.Context(), hour("read")); !errors.Is(err, issuer.ErrNotIssued) || s.requests() != 0 {
			t.Errorf("%s: %v after %d requests", name, err, s.requests())
		}
	}
	s.set(func() { s.answer = func(w http.ResponseWriter) { fail(w, 400, "invalid_grant") } })
	_, _, err := refreshing(t, s.URL, &memory{kept: "gone"}).Issue(t.Context(), hour("read"))
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != "REFRESH_TOKEN_DEAD" || strings.Contains(err.Error(), "an answer was lost at") {
		t.Errorf("%v", err)
	}
}
