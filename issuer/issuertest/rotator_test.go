package issuertest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// vaultOfKeys keeps keys, each with a label, and knows which one is in use: POST /make?label=, /end?key=,
// /use?key=, /list?label=.
type vaultOfKeys struct {
	mu    sync.Mutex // owns what follows
	keys  []string
	label map[string]string
	inUse string
}

func (s *vaultOfKeys) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, label := r.URL.Query().Get("key"), r.URL.Query().Get("label")
	switch r.URL.Path {
	case "/make":
		key = rand.Text()
		s.keys, s.label[key] = append(s.keys, key), label
		_, _ = io.WriteString(w, key)
	case "/end":
		s.keys = slices.DeleteFunc(s.keys, func(k string) bool { return k == key })
	case "/use":
		s.inUse = key
	case "/current":
		_, _ = io.WriteString(w, s.inUse)
	case "/list":
		for _, k := range s.keys {
			if s.label[k] == label {
				_, _ = fmt.Fprintln(w, k)
			}
		}
	}
}

func (s *vaultOfKeys) fresh(*testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := rand.Text()
	s.keys, s.label, s.inUse = []string{first}, map[string]string{first: "first"}, first
}

func (s *vaultOfKeys) secrets(context.Context) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys)
}

func (s *vaultOfKeys) root(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse, nil
}

func (s *vaultOfKeys) alive(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys), nil
}

func (s *vaultOfKeys) works(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.keys, s.inUse) {
		return errors.New("the key in use has ended")
	}
	return nil
}

// keyRotator rotates such keys; flaw names what is wrong with it, if anything.
type keyRotator struct{ client }

func (k *keyRotator) call(ctx context.Context, path string) (string, error) {
	if k.flaw == "no deadline" {
		ctx = context.WithoutCancel(ctx)
	}
	text, err := k.post(ctx, path)
	if cut, ok := errors.AsType[*url.Error](err); ok && k.flaw != "secret in an error" {
		err = fmt.Errorf("it did not answer at all: %w", cut.Err) // the URL holds a key
	}
	if err != nil {
		err = k.failure(err)
	}
	return strings.TrimSpace(text), err
}

func (k *keyRotator) Check(ctx context.Context, r issuer.Rotation) ([]cred.Finding, error) {
	now, err := k.call(ctx, "/current")
	if err != nil {
		return nil, err
	}
	if k.flaw == "check makes" {
		_, err = k.call(ctx, "/make")
	}
	found := cred.Finding{Name: "key", OK: k.flaw != "finds fault", Text: "there is one"}
	if k.flaw == "secret in a finding" {
		found.Text = now
	}
	return []cred.Finding{found}, err
}

func (k *keyRotator) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if err := k.endMade(ctx, r); err != nil && k.flaw != "forgets what it made" {
		return r, err
	}
	old, err := k.call(ctx, "/current")
	if err != nil {
		return r, err
	}
	made, err := k.call(ctx, "/make?label="+k.labelOf(r))
	if err != nil {
		return r, err
	}
	if k.flaw == "uses it too early" {
		_, err = k.call(ctx, "/use?key="+made)
	}
	if k.flaw == "changes the ID" {
		r.ID = "else"
	}
	r.Old, r.New = "one", "two"
	if k.flaw == "secret in a name" {
		r.New = made
	}
	if k.flaw == "one name for both" {
		r.New = r.Old
	}
	r.Notes = map[string]cred.Secret{"old": cred.SecretString(old), "new": cred.SecretString(made)}
	return r, err
}

func (k *keyRotator) labelOf(r issuer.Rotation) string {
	if k.flaw == "forgets what it made" {
		return ""
	}
	return r.ID
}

func (k *keyRotator) endMade(ctx context.Context, r issuer.Rotation) error {
	made, err := k.call(ctx, "/list?label="+r.ID)
	if err != nil {
		return err
	}
	for key := range strings.FieldsSeq(made) {
		if _, err := k.call(ctx, "/end?key="+key); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyRotator) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if k.flaw == "switches nothing" {
		return r, nil
	}
	if k.flaw == "ends the old key too early" {
		if _, err := k.call(ctx, "/end?key="+r.Notes["old"].RevealString()); err != nil {
			return r, err
		}
	}
	_, err := k.call(ctx, "/use?key="+r.Notes["new"].RevealString())
	return r, err
}

func (k *keyRotator) Verify(ctx context.Context, r issuer.Rotation) error {
	now, err := k.call(ctx, "/current")
	if err == nil && now != r.Notes["new"].RevealString() {
		err = &cred.Error{Kind: cred.Invalid, Op: "x", Public: "it is not in use"}
	}
	return err
}

func (k *keyRotator) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if k.flaw == "retires nothing" {
		return r, nil
	}
	_, err := k.call(ctx, "/end?key="+r.Notes["old"].RevealString())
	if k.flaw == "swallows" {
		err = nil
	}
	return r, err
}

func (k *keyRotator) Undo(ctx context.Context, r issuer.Rotation) error {
	if old := r.Notes["old"]; !old.IsZero() && k.flaw != "undoes half" {
		if _, err := k.call(ctx, "/use?key="+old.RevealString()); err != nil {
			return err
		}
	}
	if k.flaw == "undoes nothing" {
		return nil
	}
	return k.endMade(ctx, r)
}

const rotatorFlawVariable = "DAYPASS_ROTATORTEST_FLAW"

// The suite passes a rotator without flaws. As a child of the next test, it judges one with a flaw.
func TestSuitePassesAGoodRotator(t *testing.T) {
	s := &vaultOfKeys{}
	s.fresh(t)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New: func(_ *testing.T, at string) issuer.Rotator {
			return &keyRotator{client{url: at, flaw: os.Getenv(rotatorFlawVariable), http: &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}}
		},
		Source: srv.URL, Fresh: s.fresh, Root: s.root, Alive: s.alive, Works: s.works,
		NoWayBack: os.Getenv(rotatorFlawVariable) == "says there is no way back",
		Secrets:   s.secrets,
	})
}

func TestSuiteFindsFlawsOfRotators(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each flaw")
	}
	for _, flaw := range []string{
		"check makes", "finds fault", "secret in a finding", "secret in a name", "secret in an error", "one name for both", "changes the ID",
		"forgets what it made", "uses it too early", "switches nothing", "ends the old key too early", "retires nothing", "swallows",
		"undoes nothing", "undoes half", "says there is no way back", "no deadline", "says none made", "public cause", "not our error",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.failfast", "-test.run=^TestSuitePassesAGoodRotator$")
			cmd.Env = append(os.Environ(), rotatorFlawVariable+"="+flaw)
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), "--- FAIL") {
				t.Errorf("the suite passed a rotator that has a flaw: %v\n%s", err, out)
			}
			t.Log(firstComplaint(string(out)))
		})
	}
}
