package vault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// TestMounts holds that a real Vault is asked once for all paths below a mount, whatever callers choose in
// them, and again once the answer is old.
func TestMounts(t *testing.T) {
	v := peers.Vault(t)
	v.Mount(t, "team/a", "kv", map[string]string{"version": "2"})
	v.AppRole(t, "deep/approle", "r", nil, nil)
	front := issuertest.NewFront(t, v.URL)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(v.RootToken), 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := New(Config{Address: front.URL, TokenFile: &TokenFile{Path: file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	asked := 0
	want := func(path, at, engine string, asks int) {
		t.Helper()
		found, err := i.mount(t.Context(), path)
		asked += asks
		if n := front.Reached("GET /v1/sys/internal/ui/mounts/"); err != nil || found.path != at || found.engine != engine || n != asked {
			t.Fatalf("%s is at %q of %q, %v, after %d requests; want %q, %q, %d", path, found.path, found.engine, err, n, at, engine, asked)
		}
	}
	// Vault says it itself: nothing is mounted below a mount, nor above one.
	for _, path := range []string{"team/a/b", "team"} {
		if err := v.Client.Sys().MountWithContext(t.Context(), path, &api.MountInput{Type: "kv"}); err == nil || !strings.Contains(err.Error(), "already in use") {
			t.Fatalf("%s is mounted: %v", path, err)
		}
	}
	want("team/a/orders", "team/a/", "kv2", 1)
	for n := range 100 {
		want(fmt.Sprintf("team/a/orders/%d", n), "team/a/", "kv2", 0)
	}
	want("team/a", "team/a/", "kv2", 0)
	want("auth/deep/approle/role/r", "deep/approle/", "approle", 1)
	want("auth/deep/approle/role/s", "deep/approle/", "approle", 0)
	want("deep/approle/role/s", "", "", 1)
	for n := range 10 {
		want(fmt.Sprintf("team/ab/%d", n), "", "", 1) // nobody knows what is there
		want("team/nosuch", "", "", 1)
	}
	if n := len(i.mounts.known); n != 2 {
		t.Errorf("%d mounts are known", n)
	}

	// Another engine is mounted there, and another mount takes its paths.
	unmount := func(path string) {
		t.Helper()
		if err := v.Client.Sys().UnmountWithContext(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	age := func(by time.Duration) {
		i.mounts.mu.Lock()
		defer i.mounts.mu.Unlock()
		for at, m := range i.mounts.known {
			m.asked = m.asked.Add(-by)
			i.mounts.known[at] = m
		}
	}
	unmount("team/a")
	v.Mount(t, "team/a", "ssh", nil)
	age(mountMaxAge / 2)
	want("team/a/orders/1", "team/a/", "kv2", 0)
	age(mountMaxAge / 2)
	want("team/a/orders/1", "team/a/", "ssh", 1)
	want("team/a/orders/2", "team/a/", "ssh", 0)
	unmount("team/a")
	v.Mount(t, "team", "kv", nil)
	age(mountMaxAge)
	want("team/b/orders", "team/", "kv1", 1)
	want("team/a/orders", "team/", "kv1", 0)
	unmount("team")
	v.Mount(t, "team/a", "ssh", nil)
	age(mountMaxAge)
	want("team/b/orders", "", "", 1)
	want("team/a/orders", "team/a/", "ssh", 1)
}

// TestMountsAreBounded holds that no answers, whatever they say and whatever is asked for, take more memory
// than so many, and that the latest stay.
func TestMountsAreBounded(t *testing.T) {
	for name, answer := range map[string]func(team string) string{
		"a mount for each":      func(team string) string { return team + "/" },
		"another path":          func(string) string { return "elsewhere/" },
		"no path":               func(string) string { return "" },
		"no slash":              func(team string) string { return team },
		"of the root namespace": func(string) string { return "/" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mounts{known: map[string]mount{}}
				team := func(n int) string { return fmt.Sprintf("team-%d", n) }
				const more = 64
				for n := range maxMounts + more {
					time.Sleep(time.Millisecond)
					m.put(team(n)+"/creds/x", mount{path: answer(team(n)), engine: team(n), asked: time.Now()})
				}
				if len(m.known) != maxMounts {
					t.Errorf("%d are kept", len(m.known))
				}
				for n := range maxMounts + more {
					found, ok := m.get(team(n) + "/creds/x")
					if ok != (n >= more) || ok && found.engine != team(n) {
						t.Fatalf("%s: %+v, %v", team(n), found, ok)
					}
				}
				if _, ok := m.get("team/creds/x"); ok {
					t.Error("a mount whose name begins alike")
				}
				time.Sleep(mountMaxAge)
				if _, ok := m.get(team(maxMounts+more-1) + "/creds/x"); ok {
					t.Error("it is used for ever")
				}
			})
		})
	}
}

// TestLaterMountCounts holds that of two answers for one path, which there are after a mount has moved, the
// later one is used.
func TestLaterMountCounts(t *testing.T) {
	now := time.Now()
	above, below := mount{path: "team/", engine: "kv1", asked: now}, mount{path: "team/a/", engine: "kv2", asked: now}
	for _, late := range []*mount{&above, &below} {
		late.asked = late.asked.Add(time.Second)
		m := mounts{known: map[string]mount{}}
		m.put("team/b/x", above)
		m.put("team/a/x", below)
		if found, ok := m.get("team/a/y"); !ok || found != *late {
			t.Errorf("found %+v, want %+v", found, *late)
		}
		late.asked = now.Add(-time.Second)
	}
}
