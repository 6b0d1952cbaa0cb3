package audit

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTreeAgreesWithTlog(t *testing.T) {
	l := newTestLog(t)
	var ours tree
	for n := range 300 {
		want, err := tlog.TreeHash(int64(n), l)
		if err != nil {
			t.Fatal(err)
		}
		if got := ours.root(); got != want {
			t.Fatalf("%d leaves: root %s, want %s", n, got, want)
		}
		if len(ours.roots) > 9 {
			t.Fatalf("%d leaves: %d hashes are kept", n, len(ours.roots))
		}
		b := fmt.Appendf(nil, "entry %d", n)
		l.appendBytes(b)
		ours.add(LeafHash(b))
	}
}
