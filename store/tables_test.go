package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/store"
)

// Files are named by these, and sealed records are bound to them: they never change, and a new table
// comes at the end.
func TestTableNamesAreFixed(t *testing.T) {
	want := []store.Table{
		"grants", "leases", "idempotency", "keys", "policies", "cursors", "requests", "standing", "locks", "notices", "seen",
	}
	if diff := cmp.Diff(want, store.Tables[:min(len(want), len(store.Tables))]); diff != "" {
		t.Error(diff)
	}
	seen := map[store.Table]bool{}
	for _, table := range store.Tables {
		if seen[table] || strings.ToLower(string(table)) != string(table) || strings.ContainsAny(string(table), "./") {
			t.Errorf("%q is no name for a table, or is there twice", table)
		}
		seen[table] = true
	}
}

// A sealed record opens in its own table and in no other.
func TestSealedRecordsStayInTheirTable(t *testing.T) {
	for _, from := range store.Tables {
		inner, _ := openInner(t)
		sealed := store.Sealed(inner, newKey(t))
		put(t, sealed, store.Record{Key: store.Key{Table: from, ID: "a"}, Value: []byte("v")})
		if r, err := get(t, sealed, store.Key{Table: from, ID: "a"}); err != nil || string(r.Value) != "v" {
			t.Errorf("%s: %q, %v", from, r.Value, err)
		}
		raw, err := get(t, inner, store.Key{Table: from, ID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range store.Tables {
			if to == from {
				continue
			}
			k := store.Key{Table: to, ID: "a"}
			put(t, inner, store.Record{Key: k, Value: raw.Value})
			if r, err := get(t, sealed, k); err == nil {
				t.Errorf("what was sealed for %s opens in %s: %q", from, to, r.Value)
			}
		}
	}
}
