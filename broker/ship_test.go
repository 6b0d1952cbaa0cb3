package broker

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

const edgeLog = "daypass-proxy/edge/a1"

// used is an entry of a proxy's log.
func used(t *testing.T, seq uint64, change func(*audit.Event)) Shipped {
	t.Helper()
	e := audit.Event{
		Kind: audit.UseBegin, Time: noon.Add(time.Duration(seq) * time.Second), Grant: "gr_x",
		Use: &audit.Use{ID: cred.UseID("us_" + string(rune('a'+seq))), Proxy: "edge", Method: "GET"}, Detail: map[string]any{"target": "api"},
	}
	if change != nil {
		change(&e)
	}
	b, err := audit.Canonical(seq, e)
	if err != nil {
		t.Fatal(err)
	}
	return Shipped{seq, b}
}

// edited is an entry whose bytes were changed.
func edited(t *testing.T, old, with string) []Shipped {
	t.Helper()
	s := used(t, 0, nil)
	text := strings.Replace(string(s.Canonical), old, with, 1)
	if text == string(s.Canonical) {
		t.Fatalf("%s is not in %s", old, text)
	}
	return []Shipped{{0, []byte(text)}}
}

func batch(t *testing.T, seqs ...uint64) (out []Shipped) {
	for _, seq := range seqs {
		out = append(out, used(t, seq, nil))
	}
	return out
}

func TestShipUses(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		seqs []uint64
		next uint64
	}{
		{nil, 0},
		{[]uint64{1, 2}, 0}, // a gap
		{[]uint64{0, 1}, 2},
		{[]uint64{0, 1}, 2}, // again
		{[]uint64{1, 2, 3}, 4},
		{[]uint64{6, 7}, 4},
		{[]uint64{4, 6}, 5},
		{[]uint64{5}, 6},
	} {
		next, err := w.ShipUses(t.Context(), edge, edgeLog, batch(t, step.seqs...))
		w.must(err)
		if next != step.next {
			t.Errorf("after %v it wants %d, want %d", step.seqs, next, step.next)
		}
	}
	var got []uint64
	for _, e := range w.eventsOf(audit.UseBegin) {
		if e.Origin == nil || e.Origin.Log != edgeLog || e.Use.Proxy != "edge" || e.Grant != "gr_x" || !e.Time.Equal(noon.Add(time.Duration(e.Origin.Seq)*time.Second)) {
			t.Errorf("recorded %+v", e)
		}
		got = append(got, e.Origin.Seq)
	}
	if diff := cmp.Diff([]uint64{0, 1, 2, 3, 4, 5}, got); diff != "" {
		t.Error(diff)
	}
	if next, err := w.ShipUses(t.Context(), edge, "daypass-proxy/edge/b2", batch(t, 0)); err != nil || next != 1 {
		t.Errorf("another log file of the same proxy: %d, %v", next, err)
	}
}

func TestShipRefuses(t *testing.T) {
	w := newWorld(t)
	with := func(change func(*audit.Event)) []Shipped { return []Shipped{used(t, 0, nil), used(t, 1, change)} }
	workload := edge
	workload.Kind = cred.KindWorkload
	for name, test := range map[string]struct {
		who     cred.Principal
		log     string
		entries []Shipped
		kind    cred.Kind
		reason  string
	}{
		"another proxy's log":    {edge, "daypass-proxy/other/a1", batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"a proxy below its name": {edge, "daypass-proxy/edge/b/a1", batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"a prefix of a name":     {edge, "daypass-proxy/edges/a1", batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"no file":                {edge, "daypass-proxy/edge/", batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"our own log":            {edge, "daypass.example.com/test", batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"no proxy":               {workload, edgeLog, batch(t, 0), cred.Denied, "NOT_SHIPPABLE"},
		"a log with a space":     {edge, "daypass-proxy/edge/a 1", batch(t, 0), cred.Invalid, "STORE_INVALID"},
		"another proxy's use":    {edge, edgeLog, with(func(e *audit.Event) { e.Use.Proxy = "other" }), cred.Denied, "NOT_SHIPPABLE"},
		"a use of nobody":        {edge, edgeLog, with(func(e *audit.Event) { e.Use = nil }), cred.Denied, "NOT_SHIPPABLE"},
		"an origin":              {edge, edgeLog, with(func(e *audit.Event) { e.Origin = &audit.Origin{Log: "x"} }), cred.Denied, "NOT_SHIPPABLE"},
		"a decision":             {edge, edgeLog, with(func(e *audit.Event) { e.Decision = &audit.Decision{Allowed: true} }), cred.Denied, "NOT_SHIPPABLE"},
		"an approval":            {edge, edgeLog, with(func(e *audit.Event) { e.Approvals = []audit.Approval{{}} }), cred.Denied, "NOT_SHIPPABLE"},
		"a lease":                {edge, edgeLog, with(func(e *audit.Event) { e.Lease = &audit.Lease{ID: "le_x"} }), cred.Denied, "NOT_SHIPPABLE"},
		"another number":         {edge, edgeLog, []Shipped{{1, used(t, 0, nil).Canonical}}, cred.Invalid, ""},
		"no entry":               {edge, edgeLog, []Shipped{{0, []byte("{}")}}, cred.Invalid, ""},
		"not canonical":          {edge, edgeLog, []Shipped{{0, append(used(t, 0, nil).Canonical, ' ')}}, cred.Invalid, ""},
		"a space":                {edge, edgeLog, edited(t, `,"use"`, `, "use"`), cred.Invalid, ""},
		"an escape":              {edge, edgeLog, edited(t, `"GET"`, `"\u0047ET"`), cred.Invalid, ""},
		"bytes that are no text": {edge, edgeLog, edited(t, `"GET"`, "\"G\xffT\""), cred.Invalid, ""},
		"an unknown member":      {edge, edgeLog, edited(t, `,"use"`, `,"used":1,"use"`), cred.Invalid, ""},
		"a member twice":         {edge, edgeLog, edited(t, `"target":"api"`, `"target":"web","target":"api"`), cred.Invalid, ""},
		"another order":          {edge, edgeLog, edited(t, `"proxy":"edge","method":"GET"`, `"method":"GET","proxy":"edge"`), cred.Invalid, ""},
		"an empty member":        {edge, edgeLog, edited(t, `,"detail"`, `,"peer":"","detail"`), cred.Invalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.ShipUses(t.Context(), test.who, test.log, test.entries)
			refusedAs(t, err, test.kind, test.reason)
		})
	}
	for _, kind := range []audit.Kind{
		audit.ExchangeGranted, audit.ExchangeDenied, audit.GrantRevoked, audit.GrantExpired, audit.LeaseIntent, audit.LeaseIssued,
		audit.LeaseRevoked, audit.BrokerStarted, audit.PolicyLoaded, audit.KeyRotated, audit.AuditExported, audit.RotationStep, "made.up",
	} {
		_, err := w.ShipUses(t.Context(), edge, edgeLog, with(func(e *audit.Event) { e.Kind = kind }))
		if cred.KindOf(err) != cred.Denied {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if n := len(w.eventsOf(audit.UseBegin)); n != 0 {
		t.Errorf("%d entries of refused batches were taken over", n)
	}
	started := used(t, 0, func(e *audit.Event) { e.Kind, e.Use = audit.ProxyStarted, nil })
	if next, err := w.ShipUses(t.Context(), edge, edgeLog, []Shipped{started}); err != nil || next != 1 {
		t.Errorf("a start: %d, %v", next, err)
	}
}

// An entry is copied once, whatever becomes of the write that copies it and of its answer.
func TestShipStoreFaults(t *testing.T) {
	w := newWorld(t)
	w.store.plan(notDone, doneLost)
	for _, kind := range []cred.Kind{cred.Unavailable, cred.Unavailable} {
		if _, err := w.ShipUses(t.Context(), edge, edgeLog, batch(t, 0, 1)); cred.KindOf(err) != kind {
			t.Errorf("got %v", err)
		}
	}
	if next, err := w.ShipUses(t.Context(), edge, edgeLog, batch(t, 0, 1, 2)); err != nil || next != 3 {
		t.Errorf("%d, %v", next, err)
	}
	if n := len(w.eventsOf(audit.UseBegin)); n != 3 {
		t.Errorf("%d entries", n)
	}
}

func TestShipConcurrently(t *testing.T) {
	w := newWorld(t)
	entries := batch(t, 0, 1, 2, 3)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if next, err := w.ShipUses(t.Context(), edge, edgeLog, entries); err != nil || next != 4 {
				t.Errorf("%d, %v", next, err)
			}
		})
	}
	wg.Wait()
	if n := len(w.eventsOf(audit.UseBegin)); n != 4 {
		t.Errorf("%d entries", n)
	}
}
