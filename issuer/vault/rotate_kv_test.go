package vault_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func texts(values map[string]cred.Secret) map[string]string {
	out := map[string]string{}
	for name, v := range values {
		out[name] = v.RevealString()
	}
	return out
}

func TestKVAccess(t *testing.T) {
	t.Parallel()
	v := peers.Vault(t)
	w := &world{VaultServer: v}
	v.Policy(t, "kv", `
path "secret/data/*" { capabilities = ["read", "create", "update"] }
path "secret/destroy/*" { capabilities = ["update"] }
path "one/*" { capabilities = ["read", "update"] }
`)
	w.jwks = w.serveKeys(t)
	w.JWTAuth(t, "jwt", peers.Data{"jwks_url": w.jwks, "bound_issuer": "https://daypass.example.com"})
	w.JWTRole(t, "jwt", "daypass", "vault", []string{"kv"}, nil)
	w.Mount(t, "one", "kv", map[string]string{"version": "1"})
	t.Run("reads and writes", w.testKVWrite)
	t.Run("faults", w.testKVFaults)
}

func (w *world) stored(t *testing.T, path string) map[string]any {
	t.Helper()
	read, err := w.Client.Logical().ReadWithContext(t.Context(), "secret/data/"+path)
	if err != nil || read == nil {
		t.Fatalf("reading %s: %v, %v", path, read, err)
	}
	return read.Data["data"].(map[string]any)
}

func (w *world) testKVWrite(t *testing.T) {
	iss := newIssuer(t, w.config())
	if _, _, err := iss.ReadKV(t.Context(), "secret/apps/db"); cred.KindOf(err) != cred.NotFound {
		t.Fatalf("what is not there: %v, want kind not_found", err)
	}
	next := map[string]cred.Secret{"password": cred.SecretString("p1")}
	if n, err := iss.WriteKV(t.Context(), "secret/apps/db", next, 0); n != 1 || err != nil {
		t.Fatalf("the first version: %d, %v", n, err)
	}
	w.KV(t, "apps/db", peers.Data{"password": "p2", "port": 5432, "tags": []string{"a", "b"}, "note": "", "nothing": nil})
	read, version, err := iss.ReadKV(t.Context(), "secret/data/apps/db")
	if err != nil || version != 2 {
		t.Fatalf("version %d, %v", version, err)
	}
	if diff := cmp.Diff(map[string]string{"password": "p2", "port": "5432", "tags": "a\nb"}, texts(read)); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	read["password"] = cred.SecretString("p3")
	for range 2 { // the second time it is there already
		if n, err := iss.WriteKV(t.Context(), "secret/apps/db", read, 2); n != 3 || err != nil {
			t.Fatalf("version %d, %v", n, err)
		}
	}
	want := map[string]any{"password": "p3", "port": json.Number("5432"), "tags": []any{"a", "b"}, "note": "", "nothing": nil}
	if diff := cmp.Diff(want, w.stored(t, "apps/db")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	read["password"] = cred.SecretString("p4")
	for _, cas := range []int{0, 2, 4} {
		if _, err := iss.WriteKV(t.Context(), "secret/apps/db", read, cas); cred.KindOf(err) != cred.Conflict {
			t.Errorf("wrote over version 3 with cas %d: %v", cas, err)
		}
	}
	for range 2 {
		if err := iss.DestroyKV(t.Context(), "secret/apps/db", []int{1, 2, 9}); err != nil {
			t.Fatal(err)
		}
	}
	old, err := w.Client.Logical().ReadWithDataWithContext(t.Context(), "secret/data/apps/db", map[string][]string{"version": {"2"}})
	if err != nil || old == nil || old.Data["data"] != nil {
		t.Errorf("a destroyed version: %v, %v", old, err)
	}
	if _, version, err := iss.ReadKV(t.Context(), "secret/apps/db"); version != 3 || err != nil {
		t.Errorf("after old versions were destroyed: version %d, %v", version, err)
	}
	if _, _, err := iss.ReadKV(t.Context(), "one/apps/db"); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a store of version 1: %v", err)
	}
	if _, err := iss.WriteKV(t.Context(), "cubbyhole/x", next, 0); cred.KindOf(err) != cred.Invalid {
		t.Errorf("what is no key-value store: %v", err)
	}
}

// Each request of a write is broken, in both forms; repeated with the same cas, it is done once.
func (w *world) testKVFaults(t *testing.T) {
	w.KV(t, "apps/faulty", peers.Data{"password": "p"})
	version := 1
	for _, fault := range []issuertest.Fault{issuertest.NotDone, issuertest.DoneLost} {
		for n := 1; ; n++ {
			front := issuertest.NewFront(t, w.URL)
			cfg := w.config()
			cfg.Address = front.URL
			iss := newIssuer(t, cfg)
			front.Break(fault, n)
			next := map[string]cred.Secret{"password": cred.SecretString(strings.Repeat("p", version+1))}
			got, err := iss.WriteKV(t.Context(), "secret/apps/faulty", next, version)
			came := front.Seen() >= n
			if err != nil {
				if cred.KindOf(err) != cred.Unavailable || fault == issuertest.DoneLost { // which a look tells
					t.Errorf("%v at request %d: %v", fault, n, err)
				}
				front.Break(issuertest.None, 0)
				got, err = iss.WriteKV(t.Context(), "secret/apps/faulty", next, version)
			}
			if version++; err != nil || got != version {
				t.Fatalf("%v at request %d: version %d, want %d; %v", fault, n, got, version, err)
			}
			if stored := w.stored(t, "apps/faulty")["password"]; stored != next["password"].RevealString() {
				t.Errorf("%v at request %d: stored %v", fault, n, stored)
			}
			if !came {
				break
			}
		}
	}
}
