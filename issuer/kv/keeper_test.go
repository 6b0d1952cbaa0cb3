package kv

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer/vault"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(doorVariable); how != "" {
		os.Exit(door(how)) // we are the command that a test has configured
	}
	goleak.VerifyTestMain(m)
}

var _ Keeper = (*vault.Issuer)(nil)

// memory is a Keeper with KV's rules, and with failures in both forms.
type memory struct {
	mu        sync.Mutex // owns what follows
	versions  []Values   // version 1 first; nil where destroyed
	writes    int
	failWrite string // "", "not done", "lost", "refused", "other wrote": for the next write
	failRead  int    // how many reads fail from now on
}

func remember(v Values) *memory { return &memory{versions: []Values{v}} }

func gone(text string) error {
	return &cred.Error{Kind: cred.Unavailable, Op: "memory", Public: "Vault does not answer", Err: errors.New(text)}
}

func (m *memory) ReadKV(_ context.Context, _ string) (Values, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failRead > 0 {
		m.failRead--
		return nil, 0, gone("read")
	}
	return maps.Clone(m.versions[len(m.versions)-1]), len(m.versions), nil
}

func (m *memory) WriteKV(_ context.Context, _ string, v Values, cas int) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	fail := m.failWrite
	m.failWrite = ""
	if fail == "other wrote" {
		m.versions = append(m.versions, Values{"password": cred.SecretString("third")})
	}
	switch {
	case fail == "not done":
		return 0, gone("write")
	case fail == "refused", cas != len(m.versions):
		return 0, &cred.Error{Kind: cred.Conflict, Op: "memory", Public: "another version"}
	}
	m.versions = append(m.versions, maps.Clone(v))
	switch fail {
	case "lost":
		m.failRead++
		return 0, gone("write")
	case "twice": // as a client does that repeats a request whose answer was lost
		return 0, &cred.Error{Kind: cred.Invalid, Op: "memory", Public: "another version"}
	}
	return len(m.versions), nil
}

func (m *memory) DestroyKV(_ context.Context, _ string, versions []int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range versions {
		m.versions[v-1] = nil
	}
	return nil
}

// left returns the versions that can be read.
func (m *memory) left() (all []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, v := range m.versions {
		if v != nil {
			all = append(all, n+1)
		}
	}
	return all
}

// vaultKeeper is a Keeper at a real Vault, as thin as can be.
type vaultKeeper struct{ kv *api.KVv2 }

func keeperAt(t testing.TB, v *peers.VaultServer, url string) vaultKeeper {
	cfg := api.DefaultConfig()
	cfg.Address, cfg.MaxRetries = url, 0
	cfg.HttpClient.CloseIdleConnections()
	c, err := api.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.HttpClient.CloseIdleConnections)
	c.SetToken(v.RootToken)
	return vaultKeeper{c.KVv2("secret")}
}

func vaultFailure(err error) error {
	if said, ok := errors.AsType[*api.ResponseError](err); ok {
		return &cred.Error{Kind: cred.Invalid, Op: "vault", Public: "Vault refuses", Err: said}
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault", Public: "Vault does not answer", Err: err}
}

func (k vaultKeeper) ReadKV(ctx context.Context, path string) (Values, int, error) {
	s, err := k.kv.Get(ctx, path)
	if err != nil {
		return nil, 0, vaultFailure(err)
	}
	v := Values{}
	for name, value := range s.Data {
		v[name] = cred.SecretString(value.(string))
	}
	return v, s.VersionMetadata.Version, nil
}

func (k vaultKeeper) WriteKV(ctx context.Context, path string, v Values, cas int) (int, error) {
	plain := map[string]any{}
	for name, value := range v {
		plain[name] = value.RevealString()
	}
	s, err := k.kv.Put(ctx, path, plain, api.WithCheckAndSet(cas))
	if err != nil {
		return 0, vaultFailure(err)
	}
	return s.VersionMetadata.Version, nil
}

func (k vaultKeeper) DestroyKV(ctx context.Context, path string, versions []int) error {
	if err := k.kv.Destroy(ctx, path, versions); err != nil {
		return vaultFailure(err)
	}
	return nil
}

// destroyed returns which versions Vault has destroyed.
func (k vaultKeeper) destroyed(t testing.TB, path string) (all []int) {
	meta, err := k.kv.GetMetadata(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range meta.Versions {
		if v.Destroyed {
			all = append(all, v.Version)
		}
	}
	slices.Sort(all)
	return all
}
