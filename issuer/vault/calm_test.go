package vault

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

func TestNothingUsesAnEngineThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		var using, others, closings atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for n := range 20 {
			wg.Go(func() {
				for i := range 50 {
					path := "database/creds/a"
					if i%5 == 0 {
						path = "databases/creds/a" // another mount whose name begins alike
					}
					leave, err := c.use(ctx, path)
					if err != nil {
						t.Error(err)
						return
					}
					count := &using
					if i%5 == 0 {
						count = &others
					}
					count.Add(1)
					time.Sleep(time.Duration(n+i) * time.Millisecond)
					count.Add(-1)
					leave()
					leave() // once is enough
				}
			})
		}
		for range 30 {
			wg.Go(func() {
				err := c.alone(ctx, "database/", func() error {
					closings.Add(1)
					for range 20 {
						if using.Load() != 0 {
							t.Error("the engine is used while it is closed")
						}
						time.Sleep(time.Millisecond)
					}
					return nil
				})
				if err != nil && cred.KindOf(err) != cred.Pending {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if closings.Load() == 0 {
			t.Error("nobody closed it")
		}
		if len(c.users)+len(c.closed) != 0 {
			t.Errorf("left behind: %v, %v", c.users, c.closed)
		}
	})
}

func TestClosingWaitsForWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		leave, err := c.use(t.Context(), "database/creds/a")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.alone(t.Context(), "database/", func() error { t.Error("done while it is used"); return nil }); cred.KindOf(err) != cred.Pending {
			t.Errorf("closed while somebody stays: %v", err)
		}
		leave()
		boom := errors.New("boom")
		if err := c.alone(t.Context(), "database/", func() error { return boom }); !errors.Is(err, boom) {
			t.Errorf("what was done came back as %v", err)
		}
	})
}

func TestWhoWaitsForAClosedEngineGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		err := c.alone(t.Context(), "database/", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.use(ctx, "database/creds/a")
			if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("given up with %v", err)
			}
			leave, err := c.use(ctx, "secret/data/a")
			if err != nil {
				t.Errorf("another engine: %v", err)
				return nil
			}
			leave()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// calmVault is as much of Vault as a sign-in and a trial need. It notes what was asked of it.
type calmVault struct {
	mu   sync.Mutex // owns seen
	seen []string
}

func (v *calmVault) saw(path string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Contains(v.seen, path)
}

func (v *calmVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	v.mu.Lock()
	v.seen = append(v.seen, path)
	v.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasPrefix(path, "sys/internal/ui/mounts/"):
		_, _ = io.WriteString(w, `{"data":{"path":"database/","type":"database"}}`)
	case path == "auth/approle/login", path == "auth/token/create":
		_, _ = io.WriteString(w, `{"auth":{"client_token":"t","accessor":"a","lease_duration":3600,"renewable":true,"orphan":true}}`)
	case path == "database/creds/a":
		_, _ = io.WriteString(w, `{"request_id":"r","lease_id":"database/creds/a/1","lease_duration":60,"data":{"username":"u","password":"p"}}`)
	case path == "auth/token/revoke-accessor", path == "sys/leases/revoke":
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = io.WriteString(w, `{"data":{}}`)
	}
}

// open returns an issuer of it.
func (v *calmVault) open(t *testing.T) *Issuer {
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	i, err := New(Config{Address: srv.URL, AppRole: &AppRole{RoleID: "r", SecretID: cred.SecretString("s")}, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// enoughToSignIn is for what comes before the engine is asked, also on a busy machine.
const enoughToSignIn = 3 * time.Second

// TestTrialOfASecretIDLeavesAClosedEngineAlone holds that the trial of a rotation, which signs in on its own,
// does not use an engine whose root is replaced just then.
func TestTrialOfASecretIDLeavesAClosedEngineAlone(t *testing.T) {
	v := &calmVault{}
	i := v.open(t)
	x := &secretIDs{vault: i, at: "auth/approle/role/r"}
	sign := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return x.signIn(ctx, cred.SecretString("s"), VerifyConfig{Path: "database/creds/a"}, "rotation")
	}
	err := i.calm.alone(t.Context(), "database/", func() error { return sign(enoughToSignIn) })
	if cred.KindOf(err) != cred.Unavailable || !v.saw("auth/approle/login") || v.saw("database/creds/a") {
		t.Errorf("the engine was used while it was closed: %v", err)
	}
	if err := sign(time.Minute); err != nil || !v.saw("database/creds/a") {
		t.Errorf("the engine is open: %v", err)
	}
}

// TestTokenIsEndedWhereTheEngineStaysClosed holds that a lease's token does not live on for what was never
// asked.
func TestTokenIsEndedWhereTheEngineStaysClosed(t *testing.T) {
	v := &calmVault{}
	i := v.open(t)
	spec := issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), NotAfter: time.Now().Add(time.Hour),
		Target: cred.Target{Credential: cred.CredentialSource{Path: "database/creds/a"}},
	}
	err := i.calm.alone(t.Context(), "database/", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), enoughToSignIn)
		defer cancel()
		_, _, err := i.Issue(ctx, spec)
		return err
	})
	if !errors.Is(err, issuer.ErrNotIssued) || !v.saw("auth/token/create") {
		t.Errorf("Issue: %v", err)
	}
	_ = i.Close() // waits for what is under way
	if !v.saw("auth/token/revoke-accessor") {
		t.Error("the token lives on")
	}
}
