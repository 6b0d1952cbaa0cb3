package helper_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/clients/helper"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/userstate"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// world is a broker that grants what it is asked for, and the state of a person, in a bubble.
type world struct {
	t    *testing.T
	path string
	life time.Duration // of grants

	mu     sync.Mutex // guards all below
	holder string
	asked  []cred.Request
	err    error
	direct *cred.Credential
	takes  time.Duration // to answer
}

func newWorld(t *testing.T) *world {
	return &world{t: t, path: filepath.Join(t.TempDir(), "state"), life: time.Hour, holder: "ann"}
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// cache is what a process has.
func (w *world) cache() helper.Cache {
	state, err := userstate.Open(w.path, userstate.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return helper.Cache{
		State: state, Broker: "https://daypass.example.com", Now: time.Now,
		Holder: func(context.Context) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.holder, nil
		},
		Exchange: w.exchange,
	}
}

func (w *world) exchange(_ context.Context, want cred.Request) (sdk.Granted, error) {
	w.mu.Lock()
	w.asked = append(w.asked, want)
	n, err, takes, direct := len(w.asked), w.err, w.takes, w.direct
	w.mu.Unlock()
	time.Sleep(takes)
	if err != nil {
		return sdk.Granted{}, err
	}
	return sdk.Granted{
		Grant: &pb.Grant{Id: fmt.Sprintf("gr_%d", n), ExpireTime: timestamppb.New(time.Now().Add(w.life))},
		Token: cred.SecretString(fmt.Sprintf("token %d", n)), Credential: direct,
	}, nil
}

func (w *world) get(want cred.Request) helper.Granted {
	w.t.Helper()
	g, err := w.cache().Get(w.t.Context(), want)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

var code = cred.Request{Target: "code", Scopes: []string{"read", "write"}, Params: map[string]string{"a": "1", "b": "2"}}

func TestAGrantIsUsedUntilShortlyBeforeItsEnd(t *testing.T) {
	for life, used := range map[time.Duration]time.Duration{
		time.Hour:        59 * time.Minute,
		15 * time.Minute: 14 * time.Minute,
		time.Minute:      54 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.life = life
			first := w.get(code)
			if left := time.Until(first.End); left != used {
				t.Errorf("of %v it is used for %v, want %v", life, left, used)
			}
			time.Sleep(used - time.Nanosecond)
			if g := w.get(code); g.Grant != "gr_1" || g.Fields["token"].RevealString() != "token 1" || !g.End.Equal(first.End) || w.count() != 1 {
				t.Errorf("got %v after %d exchanges", g.Grant, w.count())
			}
			time.Sleep(time.Nanosecond)
			if g := w.get(code); g.Grant != "gr_2" {
				t.Errorf("got %v after its end", g.Grant)
			}
		})
	}
}

func TestACredentialThatEndsBeforeItsGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.direct = &cred.Credential{Type: cred.UserPassword, Fields: fields("username", "u", "password", "p"), NotAfter: time.Now().Add(10 * time.Minute)}
		g := w.get(code)
		if left := time.Until(g.End); left != 9*time.Minute || g.Fields["password"].RevealString() != "p" || !g.Fields["token"].IsZero() {
			t.Errorf("used for %v, fields %v", left, g.Fields)
		}
	})
}

// TestWhatAGrantIsKeptUnder: a grant is for whoever asked for just this.
func TestWhatAGrantIsKeptUnder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.get(code)
		same := code
		same.Scopes, same.Reason, same.IdempotencyKey = []string{"write", "read", "write"}, "another day", "k"
		w.get(same)
		if w.count() != 1 {
			t.Error("the order of scopes, or the reason, makes another request")
		}
		for name, other := range map[string]cred.Request{
			"target":     {Target: "code2", Scopes: code.Scopes, Params: code.Params},
			"scopes":     {Target: "code", Scopes: []string{"read"}, Params: code.Params},
			"params":     {Target: "code", Scopes: code.Scopes, Params: map[string]string{"a": "1", "b": "3"}},
			"no params":  {Target: "code", Scopes: code.Scopes},
			"scope of a": {Target: "code", Scopes: append([]string{"a", "1"}, code.Scopes...), Params: map[string]string{"b": "2"}},
			"ttl":        {Target: "code", Scopes: code.Scopes, Params: code.Params, TTL: time.Minute},
		} {
			n := w.count()
			w.get(other)
			if w.count() != n+1 {
				t.Errorf("%s: a request for something else was given the same grant", name)
			}
		}
		scopes, params := cred.Request{Target: "t", Scopes: []string{"a", "b", "c"}}, cred.Request{Target: "t", Scopes: []string{"a"}, Params: map[string]string{"b": "c"}}
		if a, b := w.get(scopes), w.get(params); a.Grant == b.Grant {
			t.Error("a parameter counts as scopes")
		}
		n := w.count()
		w.set(func(w *world) { w.holder = "bob" })
		if g := w.get(code); w.count() != n+1 {
			t.Errorf("bob was given ann's %s", g.Grant)
		}
		w.set(func(w *world) { w.holder = "ann" })
		c := w.cache()
		c.Broker = "https://other.example.com"
		if _, err := c.Get(t.Context(), code); err != nil || w.count() != n+2 {
			t.Errorf("another broker's grant was given (%v)", err)
		}
		if g := w.get(code); g.Grant != "gr_1" {
			t.Errorf("ann's own is %s now", g.Grant)
		}
	})
}

func TestOneOfManyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.takes = 2 * time.Second
		for round := 1; round <= 3; round++ {
			var wg sync.WaitGroup
			for range 12 {
				c := w.cache()
				wg.Go(func() {
					g, err := c.Get(t.Context(), code)
					if err != nil || g.Grant != cred.GrantID(fmt.Sprintf("gr_%d", round)) {
						t.Errorf("got %s (%v) in round %d", g.Grant, err, round)
					}
				})
			}
			wg.Wait()
			if w.count() != round {
				t.Fatalf("%d exchanges in round %d", w.count(), round)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.get(code)
		if err := w.cache().Drop(t.Context(), code, func(g helper.Granted) bool { return g.Grant == "gr_0" }); err != nil {
			t.Fatal(err)
		}
		if g := w.get(code); g.Grant != "gr_1" {
			t.Error("another grant than was meant is dropped")
		}
		if err := w.cache().Drop(t.Context(), code, func(g helper.Granted) bool { return g.Grant == "gr_1" }); err != nil {
			t.Fatal(err)
		}
		if g := w.get(code); g.Grant != "gr_2" {
			t.Error("a dropped grant is used again")
		}
	})
}

func TestARefusalIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.err = &cred.Error{Kind: cred.Denied, Public: "no"}
		if _, err := w.cache().Get(t.Context(), code); cred.KindOf(err) != cred.Denied {
			t.Errorf("got %v", err)
		}
		w.set(func(w *world) { w.err = nil })
		if g := w.get(code); g.Grant != "gr_2" {
			t.Errorf("got %s", g.Grant)
		}
	})
}

func TestNobodyGetsNothing(t *testing.T) {
	w := newWorld(t)
	c := w.cache()
	c.Holder = func(context.Context) (string, error) { return "", errors.New("not signed in") }
	if _, err := c.Get(t.Context(), code); err == nil || w.count() > 0 {
		t.Errorf("got %v after %d exchanges", err, w.count())
	}
}

// TestWhatIsKept: sealed, for the person alone, and gone when it has ended or is cleared.
func TestWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.get(code)
		other := code
		other.Target = "other"
		time.Sleep(time.Hour)
		w.get(other)
		if n := len(w.sealed()); n != 1 {
			t.Errorf("%d grants are kept, want the one that lives", n)
		}
		b, err := os.ReadFile(w.sealed()[0])
		if err != nil || strings.Contains(string(b), "token") || strings.Contains(string(b), "gr_") {
			t.Errorf("the file can be read: %q (%v)", b, err)
		}
		if err := os.WriteFile(w.sealed()[0], []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if g := w.get(other); g.Grant != "gr_3" {
			t.Errorf("got %s from a damaged file", g.Grant)
		}
		state := w.cache().State
		if err := helper.Clear(state, "https://other.example.com"); err != nil || len(w.sealed()) != 1 {
			t.Errorf("another broker's grants are cleared (%v)", err)
		}
		if err := helper.Clear(state, "https://daypass.example.com"); err != nil || len(w.sealed()) != 0 {
			t.Errorf("%d grants are left (%v)", len(w.sealed()), err)
		}
	})
}

func (w *world) sealed() []string {
	files, err := filepath.Glob(filepath.Join(w.path, "*.sealed"))
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}
