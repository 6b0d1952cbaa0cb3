package rpc_test

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/broker/rpc"
)

// TestParseForm holds our reader of forms against that of net/url.
func TestParseForm(t *testing.T) {
	part := rapid.OneOf(rapid.StringMatching(`[a-c%+=&;. -]{0,6}`), rapid.StringMatching(`(%[0-9a-fA-F]{2}|[a-z]){0,6}`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOfN(part, 0, 8).Draw(t, "parts"), rapid.SampledFrom([]string{"", "=", "&"}).Draw(t, "between"))
		want, wantErr := url.ParseQuery(body)
		for name, values := range want {
			if !utf8.ValidString(name) || !utf8.ValidString(strings.Join(values, "&")) {
				wantErr = rpc.ErrNoForm
			}
		}
		got, err := rpc.ParseForm(body)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: got the error %v, want %v", body, err, wantErr)
		}
		if err == nil {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q: %s", body, diff)
			}
		}
	})
}
