package broker

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

func TestListGrants(t *testing.T) {
	w := newWorld(t)
	var mine []cred.GrantID // newest first
	for i := range 5 {
		w.clock.advance(time.Millisecond)
		target := []string{"db", "plain"}[i%2]
		g, _ := w.grant(target)
		mine = append([]cred.GrantID{g.ID}, mine...)
		w.clock.advance(time.Millisecond)
		_, err := w.Exchange(t.Context(), as(neighbour), cred.Request{Target: "db"})
		w.must(err)
	}
	_, _, err := w.Revoke(t.Context(), runner, mine[0], "")
	w.must(err)

	list := func(who cred.Principal, f GrantFilter) (ids []cred.GrantID, more cred.GrantID) {
		grants, more, err := w.ListGrants(t.Context(), who, f)
		w.must(err)
		for _, g := range grants {
			ids = append(ids, g.ID)
		}
		return ids, more
	}
	if got, more := list(runner, GrantFilter{}); !slices.Equal(got, mine) || more != "" {
		t.Errorf("the holder sees %v, %q, want %v", got, more, mine)
	}
	for _, who := range []cred.Principal{auditor, security} {
		if got, _ := list(who, GrantFilter{}); len(got) != 10 {
			t.Errorf("%s sees %d grants", who.Subject, len(got))
		}
	}
	if got, _ := list(nosy, GrantFilter{}); len(got) != 0 {
		t.Errorf("a stranger sees %v", got)
	}
	if got, _ := list(runner, GrantFilter{Target: "plain"}); !slices.Equal(got, []cred.GrantID{mine[1], mine[3]}) {
		t.Errorf("by target %v", got)
	}
	if got, _ := list(auditor, GrantFilter{State: cred.GrantRevoked}); !slices.Equal(got, mine[:1]) {
		t.Errorf("by state %v", got)
	}
	for _, size := range []int{1, 2, 3, 5} {
		var all []cred.GrantID
		for f := (GrantFilter{Limit: size}); ; {
			page, more := list(runner, f)
			all = append(all, page...)
			if more == "" {
				break
			}
			if len(page) != size {
				t.Errorf("a page of %d, want %d", len(page), size)
			}
			f.After = more
		}
		if !slices.Equal(all, mine) {
			t.Errorf("in pages of %d: %v, want %v", size, all, mine)
		}
	}
	if got, _ := list(auditor, GrantFilter{Limit: -1}); len(got) != 10 {
		t.Errorf("a negative limit brings %d", len(got))
	}
	// A page token of another's grant tells nothing and brings nothing of it.
	grants, _, err := w.ListGrants(t.Context(), auditor, GrantFilter{Limit: 1})
	w.must(err)
	if got, _ := list(runner, GrantFilter{After: grants[0].ID}); !slices.Equal(got, mine) {
		t.Errorf("after another's grant: %v", got)
	}
	_, _, err = w.ListGrants(t.Context(), runner, GrantFilter{After: "not a token"})
	if cred.KindOf(err) != cred.Invalid {
		t.Errorf("a page token that is none: %v", err)
	}
}

func TestGetGrant(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	for _, who := range []cred.Principal{runner, auditor, security} {
		got, leases, err := w.GetGrant(t.Context(), who, g.ID)
		if err != nil || got.ID != g.ID || len(leases) != 1 {
			t.Errorf("%s: %v, %d leases, %v", who.Subject, got.ID, len(leases), err)
		}
	}
	for _, who := range []cred.Principal{neighbour, nosy, edge} {
		got, leases, err := w.GetGrant(t.Context(), who, g.ID)
		hidden := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
		_, _, err = w.GetGrant(t.Context(), who, "gr_00000000000000000000000000")
		if missing := refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN"); *missing != *hidden || got.ID != "" || leases != nil {
			t.Errorf("%s can tell a hidden grant from a missing one", who.Subject)
		}
	}
	_, _, err = w.GetGrant(t.Context(), auditor, "no ID")
	refusedAs(t, err, cred.NotFound, "GRANT_UNKNOWN")
}

// export writes an export to a file and verifies it.
func (w *world) export(who cred.Principal, f ExportFilter) ([]audit.Event, audit.Report) {
	w.t.Helper()
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	w.must(err)
	var out []audit.Event
	trailer, err := w.Export(WithPeer(w.context(), "192.0.2.3"), who, f, func(e audit.Exported) error {
		_, event, err := audit.Parse(e.Canonical)
		out = append(out, event)
		if (f == ExportFilter{}) != (e.Proof == nil) {
			w.t.Errorf("entry %d has a proof: %v", e.Seq, e.Proof != nil)
		}
		return errors.Join(err, x.Write(e))
	})
	w.must(err)
	w.must(x.Close(trailer))
	report, err := audit.Verify(&file, audit.VerifyOptions{VerifierKey: w.signer.VerifierKey()})
	w.must(err)
	return out, report
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	w.clock.advance(time.Minute)
	other, err := w.Exchange(t.Context(), as(neighbour), cred.Request{Target: "plain"})
	w.must(err)
	_, err = w.Exchange(t.Context(), as(runner), cred.Request{Target: "hidden"})
	refusedAs(t, err, cred.NotFound, "TARGET_UNKNOWN")
	_, _, err = w.Revoke(t.Context(), security, g.ID, "")
	w.must(err)

	all, report := w.export(auditor, ExportFilter{})
	if !report.Complete || report.Entries != uint64(len(all)) || all[len(all)-1].Kind != audit.AuditExported {
		t.Errorf("the whole log: %+v, the last is %s", report, all[len(all)-1].Kind)
	}
	if e := w.lastOf(audit.AuditExported); e.Principal.Subject != "auditor" || e.Peer != "192.0.2.3" || len(e.Detail) != 0 {
		t.Errorf("recorded %+v", e)
	}
	kinds := func(f ExportFilter) (out []audit.Kind) {
		events, report := w.export(security, f)
		if report.Complete {
			t.Errorf("%+v selects all", f)
		}
		for _, e := range events {
			out = append(out, e.Kind)
		}
		return out
	}
	ofGrant := []audit.Kind{audit.ExchangeGranted, audit.LeaseIntent, audit.LeaseIssued, audit.GrantRevoked, audit.LeaseRevoking, audit.LeaseRevoked}
	for name, test := range map[string]struct {
		filter ExportFilter
		want   []audit.Kind
	}{
		"grant":              {ExportFilter{Grant: g.ID}, ofGrant},
		"target":             {ExportFilter{Target: "db"}, ofGrant},
		"holder":             {ExportFilter{Subject: runner.Subject}, slices.Insert(slices.Clone(ofGrant), 3, audit.ExchangeDenied)},
		"target that hides":  {ExportFilter{Target: "hidden"}, []audit.Kind{audit.ExchangeDenied}},
		"target and holder":  {ExportFilter{Target: "db", Subject: neighbour.Subject}, nil},
		"other grant":        {ExportFilter{Grant: other.ID, Target: "plain", Subject: neighbour.Subject}, []audit.Kind{audit.ExchangeGranted}},
		"until":              {ExportFilter{Grant: g.ID, Until: noon.Add(time.Minute)}, ofGrant[:3]},
		"since":              {ExportFilter{Grant: g.ID, Since: noon.Add(time.Minute)}, ofGrant[3:]},
		"nothing matches it": {ExportFilter{Grant: "gr_0"}, nil},
	} {
		if got := kinds(test.filter); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	_, _ = w.export(auditor, ExportFilter{Target: "db", Grant: g.ID, Subject: "s", Since: noon, Until: noon.Add(time.Hour)})
	e := w.lastOf(audit.AuditExported)
	if e.Detail["target"] != "db" || e.Detail["grant"] != string(g.ID) || e.Detail["principal"] != "s" ||
		e.Detail["since"] != "2026-11-20T12:00:00Z" || e.Detail["until"] != "2026-11-20T13:00:00Z" {
		t.Errorf("the filter is recorded as %v", e.Detail)
	}
}

func TestExportRefuses(t *testing.T) {
	w := newWorld(t)
	never := func(audit.Exported) error { t.Error("something was sent"); return nil }
	for _, who := range []cred.Principal{runner, nosy, edge, {}} {
		_, err := w.Export(t.Context(), who, ExportFilter{}, never)
		refusedAs(t, err, cred.Denied, "ROLE_MISSING")
		if e := w.lastOf(audit.AccessDenied); e.Principal.Subject != who.Subject || e.Detail["call"] != "audit.export" {
			t.Errorf("recorded %+v", e)
		}
		_, err = w.Checkpoint(t.Context(), who)
		refusedAs(t, err, cred.Denied, "ROLE_MISSING")
	}
	w.store.plan(notDone)
	_, err := w.Export(t.Context(), auditor, ExportFilter{}, never)
	refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")

	gone := errors.New("the caller is gone")
	if _, err := w.Export(t.Context(), auditor, ExportFilter{}, func(audit.Exported) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

func TestCheckpoint(t *testing.T) {
	w := newWorld(t)
	trailer, err := w.Checkpoint(t.Context(), auditor)
	w.must(err)
	cp, err := audit.OpenCheckpoint(trailer.Note, w.signer.VerifierKey())
	w.must(err)
	if cp.Size != uint64(len(w.events())) || trailer.VerifierKey != w.signer.VerifierKey() {
		t.Errorf("the checkpoint is %+v", cp)
	}
}
