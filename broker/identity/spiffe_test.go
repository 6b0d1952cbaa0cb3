package identity

import (
	"net/url"
	"strings"
	"testing"
)

func TestParseSPIFFE(t *testing.T) {
	long := "spiffe://example.org/" + strings.Repeat("a", 2048-len("spiffe://example.org/"))
	for id, want := range map[string]spiffeID{
		"spiffe://example.org/ns/payments/sa/deployer": {"example.org", "/ns/payments/sa/deployer"},
		"spiffe://a_b-c.1/X.Y_z-0":                     {"a_b-c.1", "/X.Y_z-0"},
		"spiffe://example.org/...":                     {"example.org", "/..."},
		long:                                           {"example.org", long[len("spiffe://example.org"):]},
	} {
		if got, ok := parseSPIFFE(id); !ok || got != want {
			t.Errorf("%.60q: %.60q, %v; want %.60q", id, got, ok, want)
		}
	}
	for _, id := range []string{
		"", "spiffe://", "spiffe://example.org", "spiffe://example.org/", "spiffe:///path", "spiffe://example.org//a", "spiffe://example.org/a/", "spiffe://example.org/a//b",
		"spiffe://example.org/.", "spiffe://example.org/a/../b", "SPIFFE://example.org/a", "spiffe:/example.org/a", "https://example.org/a", "spiffe://Example.org/a", "spiffe://example.org:443/a",
		"spiffe://user@example.org/a", "spiffe://example.org/a?b", "spiffe://example.org/a#b", "spiffe://example.org/%61", "spiffe://example.org/a b", "spiffe://example.org/é", "spiffe://exämple.org/a",
		"spiffe://[::1]/a", "spiffe://example.org\\a/b", long + "a", "spiffe://" + strings.Repeat("a", 256) + "/a", "spiffe://example.org/a\x00", " spiffe://example.org/a",
	} {
		if got, ok := parseSPIFFE(id); ok {
			t.Errorf("%.60q was read as %.60q", id, got)
		}
	}
}

// FuzzSPIFFE holds what parseSPIFFE accepts against net/url's reading of it: the same host and path,
// nothing else in it, and one spelling alone.
func FuzzSPIFFE(f *testing.F) {
	for _, seed := range []string{"spiffe://example.org/ns/payments/sa/deployer", "spiffe://a/b", "spiffe://a/b/../c", "spiffe://a//b", "spiffe://A/b", "spiffe://a:1/b", "spiffe://a/%2e%2e/b", "spiffe://a/b?c#d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseSPIFFE(s)
		if !ok {
			if id != (spiffeID{}) {
				t.Fatalf("%q is refused and read as %q", s, id)
			}
			return
		}
		u, err := url.Parse(s)
		if err != nil {
			t.Fatalf("%q is accepted, and no URL: %v", s, err)
		}
		if u.Scheme != "spiffe" || u.Host != id.trustDomain || u.Path != id.path || u.RawPath != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil || u.Port() != "" {
			t.Fatalf("%q is read as %q, and by net/url as %+v", s, id, u)
		}
		if id.issuer()+id.path != s || u.String() != s || strings.ToLower(id.trustDomain) != id.trustDomain || !strings.HasPrefix(id.path, "/") || u.JoinPath().Path != u.Path {
			t.Fatalf("%q has another spelling: %q", s, id)
		}
		if again, ok := parseSPIFFE(id.issuer() + id.path); !ok || again != id {
			t.Fatalf("%q does not read back", s)
		}
	})
}
