package issuer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

func TestNarrow(t *testing.T) {
	from := cred.CredentialSource{
		Issuer: "vault", Path: "database/creds/{role}", Params: map[string]string{"common_name": "{host}.example.com", "method": "write"},
	}
	got, err := issuer.Narrow(from, map[string]string{"role": "orders-ro", "host": "web-1", "other": "x"})
	if err != nil {
		t.Fatal(err)
	}
	want := cred.CredentialSource{
		Issuer: "vault", Path: "database/creds/orders-ro", Params: map[string]string{"common_name": "web-1.example.com", "method": "write"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if from.Params["common_name"] != "{host}.example.com" {
		t.Error("the configuration was changed")
	}
	for name, params := range map[string]map[string]string{
		"PARAM_MISSING": {"host": "web-1"},
		"PARAM_INVALID": {"host": "web-1", "role": "../sys/policy"},
	} {
		got, err := issuer.Narrow(from, params)
		e, ok := errors.AsType[*cred.Error](err)
		if !ok || e.Kind != cred.Invalid || e.Reason != name || e.Claim != "role" || got.Path != "" {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
}

// FuzzNarrow holds that no parameter gives a path more or other parts than the configuration has.
func FuzzNarrow(f *testing.F) {
	for _, seed := range []string{"orders-ro", "..", ".", "a/b", "", "{role}", "a%2fb", "a?b", "a b", "é", "a\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, err := issuer.Narrow(cred.CredentialSource{Path: "database/creds/{role}"}, map[string]string{"role": value})
		if err != nil {
			return
		}
		parts := strings.Split(got.Path, "/")
		if len(parts) != 3 || parts[0] != "database" || parts[1] != "creds" || parts[2] != value || strings.Trim(value, ".") == "" || strings.ContainsAny(value, `{}%?#\ `) {
			t.Fatalf("%q made the path %q", value, got.Path)
		}
	})
}
