package audit

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

func TestJSONLBytes(t *testing.T) {
	l := newTestLog(t, Event{Kind: BrokerStarted, Time: testTime}, Event{Kind: "k", Time: testTime})
	note := strings.NewReplacer("\n", `\n`).Replace(string(l.trailer().Note))
	end := `,"checkpoint":"` + note + `","verifier_key":"` + l.signer.VerifierKey() + `"}` + "\n"
	first, second := LeafHash(l.entries[0]).String(), LeafHash(l.entries[1]).String()

	whole := "{\"daypass_audit_export\":1}\n" +
		`{"leaf":"` + first + `","entry":{"seq":0,"kind":"broker.started","time":"2026-03-04T05:06:07.89Z"}}` + "\n" +
		`{"leaf":"` + second + `","entry":{"seq":1,"kind":"k","time":"2026-03-04T05:06:07.89Z"}}` + "\n" + `{"entries":2` + end
	if got := string(l.export(FormatJSONL, nil)); got != whole {
		t.Errorf("got  %s\nwant %s", got, whole)
	}
	filtered := "{\"daypass_audit_export\":1}\n" +
		`{"leaf":"` + second + `","proof":["` + first + `"],"entry":{"seq":1,"kind":"k","time":"2026-03-04T05:06:07.89Z"}}` + "\n" + `{"entries":1` + end
	if got := string(l.export(FormatJSONL, everyThird)); got != filtered {
		t.Errorf("got  %s\nwant %s", got, filtered)
	}
}

// The exporter refuses to write a file that Verify would refuse.
func TestJSONLRefuses(t *testing.T) {
	l := newTestLog(t, sampleEvents(6)...)
	bare := func(seq uint64) Exported { return Exported{Seq: seq, Canonical: l.entries[seq]} }
	bytesOf := func(b []byte) Exported { return Exported{Seq: 0, Canonical: b} }
	end := l.trailer()
	stranger := newTestLog(t, sampleEvents(6)...)
	for name, c := range map[string]struct {
		end   Trailer
		all   []Exported
		words string
	}{
		"starts late":         {end, []Exported{bare(1)}, "entry 1 can't be exported: entry 0 was expected"},
		"gap":                 {end, []Exported{bare(0), bare(2)}, "entry 1 was expected"},
		"ends early":          {end, []Exported{bare(0), bare(1)}, "not those that the checkpoint covers"},
		"repeated":            {end, []Exported{l.proven(2), l.proven(2)}, "entry 3 was expected"},
		"backwards":           {end, []Exported{l.proven(2), l.proven(1)}, "entry 3 was expected"},
		"proof and none":      {end, []Exported{l.proven(0), bare(1)}, "has a proof"},
		"none and proof":      {end, []Exported{bare(0), l.proven(1)}, "has a proof"},
		"number of another":   {end, []Exported{{Seq: 0, Canonical: l.entries[1]}}, "canonical"},
		"line feed":           {end, []Exported{bytesOf([]byte("{\"seq\":0,\n}"))}, "canonical"},
		"too long":            {end, []Exported{bytesOf([]byte(`{"seq":0,` + strings.Repeat(" ", MaxEntry)))}, "canonical"},
		"beyond checkpoint":   {newTestLog(t).trailer(), []Exported{bare(0)}, "covers 0 entries"},
		"another log's key":   {Trailer{Note: end.Note, VerifierKey: stranger.signer.VerifierKey()}, nil, "not signed by the key"},
		"another log's note":  {Trailer{Note: stranger.trailer().Note, VerifierKey: end.VerifierKey}, nil, "not signed by the key"},
		"no checkpoint":       {Trailer{VerifierKey: end.VerifierKey}, nil, "not a signed note"},
		"a damaged log":       {end, []Exported{bytesOf([]byte(`{"seq":0,"kind":"x"}`)), bare(1), bare(2), bare(3), bare(4), bare(5)}, "damaged"},
		"proofs, beyond size": {newTestLog(t, sampleEvents(2)...).trailer(), []Exported{l.proven(2)}, "entry 2 was exported"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryExport(FormatJSONL, c.end, c.all...)
			refused(t, err, c.words)
		})
	}
}

func TestExporterStopsAtItsFirstError(t *testing.T) {
	l := newTestLog(t, sampleEvents(2)...)
	var out bytes.Buffer
	x, err := NewExporter(&out, FormatJSONL)
	if err != nil {
		t.Fatal(err)
	}
	bad := x.Write(Exported{Seq: 1, Canonical: l.entries[1]})
	if err := x.Write(Exported{Seq: 0, Canonical: l.entries[0]}); err == nil || err != bad {
		t.Errorf("Write: %v", err)
	}
	if err := x.Close(l.trailer()); err == nil || err != bad {
		t.Errorf("Close: %v", err)
	}
	if out.Len() != 0 {
		t.Errorf("%d bytes were written", out.Len())
	}
}

func TestExporterIsClosedOnce(t *testing.T) {
	l := newTestLog(t)
	for _, f := range Formats {
		x, err := NewExporter(new(bytes.Buffer), f)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Close(l.trailer()); err != nil {
			t.Fatal(err)
		}
		refused(t, x.Close(l.trailer()), "closed")
		refused(t, x.Write(Exported{}), "closed")
	}
	_, err := NewExporter(new(bytes.Buffer), "xml")
	refused(t, err, "xml")
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestExporterTellsAWriterThatFails(t *testing.T) {
	l := newTestLog(t, sampleEvents(1000)...)
	cause := errors.New("disk full")
	for _, f := range Formats {
		x, err := NewExporter(brokenWriter{cause}, f)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range l.entries {
			if err = x.Write(Exported{Seq: uint64(i), Canonical: b}); err != nil {
				break
			}
		}
		if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, cause) {
			t.Errorf("%s, Write: %v", f, err)
		}
		if err := x.Close(l.trailer()); !errors.Is(err, cause) {
			t.Errorf("%s, Close: %v", f, err)
		}
	}
}

func TestFormatsRefuseWhatIsNoEntry(t *testing.T) {
	l := newTestLog(t, sampleEvents(2)...)
	for _, f := range []Format{FormatCSV, FormatOCSF} {
		_, err := tryExport(f, Trailer{}, Exported{Seq: 0, Canonical: l.entries[1]})
		refused(t, err, "entry 0")
		_, err = tryExport(f, Trailer{}, Exported{Seq: 0, Canonical: []byte(`{}`)})
		refused(t, err, "entry 0")
	}
}

func TestCSV(t *testing.T) {
	e := fullEvent()
	l := newTestLog(t, e, Event{Kind: BrokerStarted, Time: testTime})
	rows, err := csv.NewReader(bytes.NewReader(l.export(FormatCSV, nil))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	got := map[string]string{}
	for i, name := range rows[0] {
		if _, twice := got[name]; twice {
			t.Errorf("two columns are called %s", name)
		}
		got[name] = rows[1][i]
		if sparse := rows[2][i]; sparse != "" && !strings.Contains(" seq time kind ", " "+name+" ") {
			t.Errorf("an entry without parts has %q as its %s", sparse, name)
		}
	}
	for name, want := range map[string]string{
		"seq": "0", "time": "2026-03-04T05:06:07.89Z", "kind": "use.end", "grant": "gr_1", "provider": "okta", "issuer": "https://id.example.com",
		"subject": "u1", "name": "U One", "principal_kind": "person", "actor": "agent", "target": "orders-db", "scopes": "read write",
		"reason": "two lines", "request_digest": "d1", "allowed": "true", "rule": "r", "policy_hash": "h", "decision_reason": "RULE",
		"decision_condition": "c", "approvals": "approved by lead (leads, owners) at 2026-03-04T05:06:07.89Z, standing sa_1; refused by boss at 2026-03-04T05:06:07.89Z",
		"lease": "le_1", "lease_redeemer": "holder", "lease_issuer": "vault", "lease_state": "issued", "lease_not_after": "2026-03-04T05:06:07.89Z",
		"secret_fingerprint": "sf", "use": "us_1", "protocol": "http", "method": "GET", "host": "api.example.com", "path": "/v1",
		"status": "200", "bytes_in": "1", "bytes_out": "2", "duration_ms": "3", "masked": "pii: 4", "use_rule": "ur", "ended": "complete",
		"rotation": "ro_1", "rotation_issuer": "vault", "rotation_step": "swap", "error_kind": "denied", "error_reason": "NO_RULE_MATCHES",
		"error": "'=no rule", "peer": "192.0.2.1:5", "origin_log": "daypass-proxy/edge-1", "origin_seq": "7", "detail": `{"n":3}`,
		"cautions": "event_name=workflow_run; ref=x", "binding": "dpop", "exempt": "break_glass",
		"demand": "1 of leads and 2 of security, and 1 of a or 1 of b",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("untested columns: %v", got)
	}
}

func TestSafeCell(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"a=b":                   "a=b",
		"=1+1":                  "'=1+1",
		"+1":                    "'+1",
		"-1":                    "'-1",
		"@SUM(A1)":              "'@SUM(A1)",
		"\t=1":                  "' =1",
		"\r\n=1":                "'  =1",
		" \u00a0=1":             "' \u00a0=1",
		"\ufeff\u200b=1":        "'\ufeff\u200b=1",
		"\uff1dcmd":             "'\uff1dcmd",
		"\uff0b1":               "'\uff0b1",
		"\uff0d1":               "'\uff0d1",
		"\uff20x":               "'\uff20x",
		"one\ntwo\x00\u2028end": "one two  end",
		"'=1":                   "'=1",
	} {
		if got := safeCell(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// fullEvent has every part set.
func fullEvent() Event {
	return Event{
		Kind: UseEnd, Time: testTime, Origin: &Origin{"daypass-proxy/edge-1", 7}, Grant: "gr_1",
		Principal: &Principal{
			Provider: "okta", Issuer: "https://id.example.com", Subject: "u1", Name: "U One", Kind: cred.KindPerson, Groups: []string{"b", "a"},
			Claims: map[string]any{"a": "b"}, Actor: &Principal{Subject: "agent", Kind: cred.KindAgent},
			Cautions: map[string]string{"ref": "x", "event_name": "workflow_run"},
		},
		Request: &Request{"orders-db", []string{"read", "write"}, map[string]string{"a": "1"}, 900, "two\nlines", "dpop", "d1"},
		Decision: &Decision{
			Allowed: true, Rule: "r", PolicyHash: "h", Reason: "RULE", Condition: "c", Exempt: "break_glass",
			Demand: &cred.Demand{
				AllOf:  []cred.Quorum{{Group: "leads", Count: 1}, {Group: "security", Count: 2}},
				AnyOf:  []cred.Quorum{{Group: "a", Count: 1}, {Group: "b", Count: 1}},
				Within: time.Hour,
			},
		},
		Approvals: []Approval{
			{By: Principal{Subject: "lead"}, Groups: []string{"leads", "owners"}, Approve: true, Comment: "ok", Digest: "d1", At: testTime, Standing: "sa_1"},
			{By: Principal{Subject: "boss"}, Digest: "d1", At: testTime},
		},
		Lease:    &Lease{"le_1", "holder", "vault", "hf", "sf", "issued", true, testTime, "n"},
		Use:      &Use{"us_1", "edge-1", "http", "GET", "api.example.com", "/v1", 200, 1, 2, 3, []Masked{{"pii", 4}}, "ur", "complete"},
		Rotation: &Rotation{"ro_1", "vault", "swap", "sf"},
		Error:    &Error{"denied", "NO_RULE_MATCHES", "=no rule"}, Peer: "192.0.2.1:5",
		Detail: map[string]any{"n": 3},
	}
}

// A proof that does not fit is the caller's fault and is found by Verify, not by the exporter, which
// writes before it knows the root.
func TestVerifyFindsAnExportersWrongProof(t *testing.T) {
	l := newTestLog(t, sampleEvents(6)...)
	x := l.proven(2)
	x.Proof = append([]tlog.Hash{someRoot}, x.Proof[1:]...)
	file, err := tryExport(FormatJSONL, l.trailer(), x)
	if err != nil {
		t.Fatal(err)
	}
	_, err = verify(file, l.signer.VerifierKey())
	refused(t, err, "line 2 (entry 2): its proof does not lead")
}
