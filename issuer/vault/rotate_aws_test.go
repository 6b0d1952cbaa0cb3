package vault_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/vault"
)

const awsPolicy = `
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/aws/sts/*" { capabilities = ["list", "sudo"] }
path "aws/sts/deploy" { capabilities = ["update"] }
path "aws/config/root" { capabilities = ["read"] }
path "aws/config/rotate-root" { capabilities = ["update"] }
`

// awsWorld is a Vault whose AWS engine talks to a fake of AWS.
type awsWorld struct {
	*world
	aws *fakeAWS
}

func newAWSWorld(t *testing.T) *awsWorld {
	w := &awsWorld{world: &world{VaultServer: peers.Vault(t)}, aws: newFakeAWS(t)}
	w.Mount(t, "aws", "aws", nil)
	w.Policy(t, "aws", awsPolicy)
	w.jwks = w.serveKeys(t)
	w.JWTAuth(t, "jwt", peers.Data{"jwks_url": w.jwks, "bound_issuer": "https://daypass.example.com"})
	w.JWTRole(t, "jwt", "daypass", "vault", []string{"aws"}, nil)
	w.fresh(t)
	w.Write(t, "aws/roles/deploy", peers.Data{"credential_type": "assumed_role", "role_arns": []string{"arn:aws:iam::123456789012:role/deploy"}})
	return w
}

// fresh leaves Vault with the one key of the user.
func (w *awsWorld) fresh(t *testing.T) {
	t.Helper()
	w.Write(t, "aws/config/root", peers.Data{
		"access_key": w.aws.fresh().ID, "secret_key": "first-secret-key", "region": "us-east-1", "max_retries": 0,
		"iam_endpoint": w.aws.URL, "sts_endpoint": w.aws.URL,
	})
}

func (w *awsWorld) inUse(ctx context.Context) (string, error) {
	about, err := w.Client.Logical().ReadWithContext(ctx, "aws/config/root")
	if err != nil {
		return "", err
	}
	return about.Data["access_key"].(string), nil
}

func (w *awsWorld) mints(ctx context.Context) error {
	_, err := w.Client.Logical().WriteWithContext(ctx, "aws/sts/deploy", peers.Data{"ttl": "15m"})
	return err
}

func (w *awsWorld) rotator(t *testing.T, baseURL string, keys issuer.KeyLister) issuer.Rotator {
	t.Helper()
	cfg := w.config()
	cfg.Address, cfg.Paths = baseURL, nil
	x, err := newIssuer(t, cfg).RootRotator(vault.RootConfig{
		Path: "aws/config/rotate-root", Keys: keys,
		Verify: vault.VerifyConfig{Path: "aws/sts/deploy", Params: map[string]string{"method": "write"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestRotateAWS(t *testing.T) {
	t.Parallel()
	w := newAWSWorld(t)
	t.Run("contract", func(t *testing.T) {
		issuertest.TestRotator(t, issuertest.RotatorHarness{
			New:    func(t *testing.T, baseURL string) issuer.Rotator { return w.rotator(t, baseURL, w.aws) },
			Source: w.URL, Fresh: w.fresh, Root: w.inUse, Works: w.mints, NoWayBack: true,
			Alive: func(ctx context.Context) (int, error) {
				keys, err := w.aws.List(ctx)
				return len(keys), err
			},
		})
	})
	t.Run("old key left behind", w.testOldKeyLeft)
	t.Run("stray key", w.testStrayKey)
	t.Run("two keys", w.testTwoKeys)
	t.Run("not known yet", w.testNotKnownYet)
}

// prepared returns a rotation that has been prepared.
func (w *awsWorld) prepared(t *testing.T, x issuer.Rotator) issuer.Rotation {
	t.Helper()
	w.fresh(t)
	r, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-1", Attempt: 1, Began: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *awsWorld) wantKeys(t *testing.T, want int) {
	t.Helper()
	if keys, err := w.aws.List(t.Context()); err != nil || len(keys) != want {
		t.Errorf("the user has the keys %v, %v, want %d", keys, err, want)
	}
}

func attempt(r issuer.Rotation, n int) issuer.Rotation {
	r.Attempt, r.Began = n, time.Now()
	return r
}

// Vault stores the new key and then fails to delete the old one: the next try finds that it is done,
// and Retire ends the old key. Without a look at the keys somebody has to be asked.
func (w *awsWorld) testOldKeyLeft(t *testing.T) {
	for name, keys := range map[string]issuer.KeyLister{"with a look at the keys": w.aws, "without": nil} {
		x := w.rotator(t, w.URL, keys)
		r := w.prepared(t, x)
		w.aws.set(func(f *fakeAWS) { f.fail, f.lost = "DeleteAccessKey", false })
		if _, err := x.Switch(t.Context(), attempt(r, 1)); cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("%s: Switch: %v, want kind unavailable", name, err)
		}
		w.wantKeys(t, 2)
		if err := x.Undo(t.Context(), attempt(r, 1)); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: Undo with the new key in use: %v, want kind invalid", name, err)
		}
		r, err := x.Switch(t.Context(), attempt(r, 2))
		if err != nil || r.New == r.Old || r.New == "" {
			t.Fatalf("%s: the second try: %v, old %q, new %q", name, err, r.Old, r.New)
		}
		if err := x.Verify(t.Context(), attempt(r, 1)); err != nil {
			t.Errorf("%s: Verify: %v", name, err)
		}
		_, err = x.Retire(t.Context(), attempt(r, 1))
		if keys == nil {
			if !issuer.WaitsForPerson(err) || !strings.Contains(cred.PublicText(err), r.Old) {
				t.Errorf("%s: Retire: %v, want that it waits for a person, with the key's ID", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: Retire: %v", name, err)
		}
		w.wantKeys(t, 1)
		if now, err := w.inUse(t.Context()); err != nil || now != r.New {
			t.Errorf("%s: in use is %q, %v, want %q", name, now, err, r.New)
		}
	}
}

// AWS makes a key whose secret Vault never learns. While Vault may still be about to store it nothing is
// touched; then it is deleted, and a new one made. A key that was there before is never touched.
func (w *awsWorld) testStrayKey(t *testing.T) {
	stray := func(x issuer.Rotator) issuer.Rotation {
		r := w.prepared(t, x)
		w.aws.set(func(f *fakeAWS) { f.fail, f.lost = "CreateAccessKey", true })
		if _, err := x.Switch(t.Context(), attempt(r, 1)); cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("Switch: %v, want kind unavailable", err)
		}
		w.wantKeys(t, 2)
		return r
	}
	settle := func() { w.aws.set(func(f *fakeAWS) { f.keys[1].Created = time.Now().Add(-3 * time.Minute) }) }
	x := w.rotator(t, w.URL, w.aws)
	r := stray(x)
	_, err := x.Switch(t.Context(), attempt(r, 2))
	if wait, ok := cred.RetryAfter(err); cred.KindOf(err) != cred.Unavailable || !ok || wait > 2*time.Minute {
		t.Errorf("a young key: %v after %v, want kind unavailable and when to come back", err, wait)
	}
	w.wantKeys(t, 2)
	settle()
	if r, err = x.Switch(t.Context(), attempt(r, 3)); err != nil || r.New == r.Old {
		t.Errorf("Switch over a stray key: %v", err)
	}
	w.wantKeys(t, 1)
	r = stray(x)
	settle()
	if err := x.Undo(t.Context(), attempt(r, 1)); err != nil {
		t.Errorf("Undo over a stray key: %v", err)
	}
	w.wantKeys(t, 1)
	if now, err := w.inUse(t.Context()); err != nil || now != r.Old {
		t.Errorf("in use is %q, %v, want the old one %q", now, err, r.Old)
	}
}

func (w *awsWorld) testTwoKeys(t *testing.T) {
	w.fresh(t)
	w.aws.set(func(f *fakeAWS) { f.newKey() })
	x := w.rotator(t, w.URL, w.aws)
	if f := finding(t, x, "one access key"); f.OK || !strings.Contains(f.Text, "2 access keys") {
		t.Errorf("two keys: %+v", f)
	}
	if _, err := x.Prepare(t.Context(), issuer.Rotation{ID: "rot-2", Attempt: 1}); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Prepare with two keys: %v, want kind invalid", err)
	}
	w.wantKeys(t, 2)
	if f := finding(t, w.rotator(t, w.URL, nil), "one access key"); !f.OK || !strings.Contains(f.Text, "not looked at") {
		t.Errorf("without a look at the keys: %+v", f)
	}
	w.aws.set(func(f *fakeAWS) { f.keys = f.keys[1:] })
	if f := finding(t, x, "one access key"); f.OK || !strings.Contains(f.Text, "not those of Vault's user") {
		t.Errorf("another user's keys: %+v", f)
	}
	w.fresh(t)
	w.aws.set(func(f *fakeAWS) { f.keys[0].Active = false })
	if f := finding(t, x, "one access key"); f.OK || !strings.Contains(f.Text, "not active") {
		t.Errorf("an inactive key: %+v", f)
	}
}

// AWS takes some seconds to know a new key everywhere: that is no failure of the rotation at first.
func (w *awsWorld) testNotKnownYet(t *testing.T) {
	x := w.rotator(t, w.URL, w.aws)
	r, err := x.Switch(t.Context(), attempt(w.prepared(t, x), 1))
	if err != nil {
		t.Fatal(err)
	}
	w.aws.set(func(f *fakeAWS) { f.unknown = 1 << 20 })
	err = x.Verify(t.Context(), attempt(r, 1))
	if wait, ok := cred.RetryAfter(err); cred.KindOf(err) != cred.Unavailable || !ok || wait == 0 {
		t.Errorf("Verify right after Switch: %v, want kind unavailable and when to come back", err)
	}
	late := attempt(r, 5)
	late.Began = time.Now().Add(-5 * time.Minute)
	if err := x.Verify(t.Context(), late); cred.KindOf(err) != cred.Invalid {
		t.Errorf("Verify minutes after Switch: %v, want kind invalid", err)
	}
	w.aws.set(func(f *fakeAWS) { f.unknown = 0 })
	if err := x.Verify(t.Context(), late); err != nil {
		t.Errorf("Verify once AWS knows the key: %v", err)
	}
}
