package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

func canonical(t testing.TB, seq uint64, e Event) string {
	t.Helper()
	b, err := Canonical(seq, e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Old logs depend on these bytes: a change here breaks every log that exists.
func TestCanonicalBytes(t *testing.T) {
	plusTwo := time.FixedZone("", 2*60*60)
	full := Event{
		Kind: UseEnd, Time: testTime.In(plusTwo), Origin: &Origin{"daypass-proxy/edge-1", 7}, Grant: "gr_1",
		Principal: &Principal{
			Provider: "okta", Issuer: "https://id.example.com", Subject: "u1", Name: "U <One>", Kind: cred.KindPerson, Groups: []string{"b", "a"},
			Claims: map[string]any{"z": nil, "a": []any{true, 1.5, "x&y"}, "m": map[string]any{"2": 2.0, "10": "ten"}},
			Actor:  &Principal{Provider: "okta", Issuer: "https://id.example.com", Subject: "agent", Kind: cred.KindAgent},
		},
		Request:   &Request{"orders-db", []string{"read"}, map[string]string{"b": "2", "a": "1"}, 900, "line\nbreak \u2028 \"q\" \\ é", "", "d1"},
		Decision:  &Decision{Allowed: true, Rule: "r", PolicyHash: "h", Reason: "RULE", Condition: "c"},
		Approvals: []Approval{{By: Principal{Subject: "lead"}, Approve: true, Comment: "ok", Digest: "d1", At: testTime.In(plusTwo)}},
		Lease:     &Lease{"le_1", "holder", "vault", "hf", "sf", "issued", true, testTime.In(plusTwo).Add(time.Hour), "n"},
		Use:       &Use{"us_1", "edge-1", "http", "GET", "api.example.com", "/v1", 200, 1, 2, 3, []Masked{{"pii", 4}}, "r", "complete"},
		Rotation:  &Rotation{"ro_1", "vault", "swap", "sf"},
		Error:     &Error{"denied", "NO_RULE_MATCHES", "no rule"}, Peer: "192.0.2.1:5",
		Detail: map[string]any{"n": 3, "big": json.Number("12345678901234567890"), "at": testTime.In(plusTwo), "kind": UseEnd},
	}
	const person = `"provider":"okta","issuer":"https://id.example.com"`
	const want = `{"seq":12,"kind":"use.end","time":"2026-03-04T05:06:07.89Z","origin":{"log":"daypass-proxy/edge-1","seq":7},"grant":"gr_1",` +
		`"principal":{` + person + `,"subject":"u1","name":"U <One>","kind":"person","groups":["b","a"],` +
		`"claims":{"a":[true,1.5,"x&y"],"m":{"10":"ten","2":2},"z":null},"actor":{` + person + `,"subject":"agent","kind":"agent"}},` +
		`"request":{"target":"orders-db","scopes":["read"],"params":{"a":"1","b":"2"},"ttl_seconds":900,"reason":"line\nbreak \u2028 \"q\" \\ é","digest":"d1"},` +
		`"decision":{"allowed":true,"rule":"r","policy_hash":"h","reason":"RULE","condition":"c"},` +
		`"approvals":[{"by":{"provider":"","issuer":"","subject":"lead"},"approve":true,"comment":"ok","digest":"d1","at":"2026-03-04T05:06:07.89Z"}],` +
		`"lease":{"id":"le_1","redeemer":"holder","issuer":"vault","handle_fingerprint":"hf","secret_fingerprint":"sf","state":"issued","revocable":true,"not_after":"2026-03-04T06:06:07.89Z","note":"n"},` +
		`"use":{"id":"us_1","proxy":"edge-1","protocol":"http","method":"GET","host":"api.example.com","path":"/v1","status":200,"bytes_in":1,"bytes_out":2,"duration_ms":3,"masked":[{"detector":"pii","count":4}],"rule":"r","ended":"complete"},` +
		`"rotation":{"id":"ro_1","issuer":"vault","step":"swap","secret_fingerprint":"sf"},"error":{"kind":"denied","reason":"NO_RULE_MATCHES","public":"no rule"},"peer":"192.0.2.1:5",` +
		`"detail":{"at":"2026-03-04T05:06:07.89Z","big":"12345678901234567890","kind":"use.end","n":3}}`
	if diff := cmp.Diff(want, canonical(t, 12, full)); diff != "" {
		t.Error(diff)
	}
	asked := Event{
		Kind: ExchangePending, Time: testTime,
		Principal: &Principal{Subject: "u1", Groups: []string{}, Cautions: map[string]string{"ref": "<x>", "event_name": "workflow_run"}},
		Request:   &Request{Target: "orders-db", Binding: "dpop", Digest: "d1"},
		Decision: &Decision{
			PolicyHash: "h", Exempt: "break_glass",
			Demand: &cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 1}}, AnyOf: []cred.Quorum{{Group: "a", Count: 2}}, Within: time.Hour, Remind: 1, Fresh: 2},
		},
		Approvals: []Approval{{By: Principal{Subject: "lead"}, Groups: []string{"leads"}, Digest: "d1", At: testTime, Standing: "sa_1"}},
	}
	const wantAsked = `{"seq":0,"kind":"exchange.pending","time":"2026-03-04T05:06:07.89Z",` +
		`"principal":{"provider":"","issuer":"","subject":"u1","groups":[],"cautions":{"event_name":"workflow_run","ref":"<x>"}},` +
		`"request":{"target":"orders-db","binding":"dpop","digest":"d1"},` +
		`"decision":{"allowed":false,"policy_hash":"h","demand":{"all_of":[{"group":"leads","count":1}],"any_of":[{"group":"a","count":2}],"within":3600000000000,"remind":1,"fresh":2},"exempt":"break_glass"},` +
		`"approvals":[{"by":{"provider":"","issuer":"","subject":"lead"},"groups":["leads"],"approve":false,"digest":"d1","at":"2026-03-04T05:06:07.89Z","standing":"sa_1"}]}`
	if diff := cmp.Diff(wantAsked, canonical(t, 0, asked)); diff != "" {
		t.Error(diff)
	}
	const least = `{"seq":0,"kind":"broker.started","time":"2026-03-04T05:06:07.000000001Z"}`
	e := Event{Kind: BrokerStarted, Time: time.Date(2026, 3, 4, 5, 6, 7, 1, time.UTC)}
	if got := canonical(t, 0, e); got != least {
		t.Errorf("got  %s\nwant %s", got, least)
	}
}

func TestCanonicalLeavesTheEventAlone(t *testing.T) {
	zone := time.FixedZone("", 3600)
	e := Event{
		Kind: LeaseIssued, Time: testTime.In(zone), Lease: &Lease{NotAfter: testTime.In(zone)},
		Approvals: []Approval{{At: testTime.In(zone), By: Principal{Claims: map[string]any{"n": 1}}}},
		Detail:    map[string]any{"list": []any{1}},
	}
	canonical(t, 0, e)
	switch {
	case e.Lease.NotAfter.Location() != zone, e.Approvals[0].At.Location() != zone:
		t.Error("a time was changed")
	case e.Approvals[0].By.Claims["n"] != 1, e.Detail["list"].([]any)[0] != 1:
		t.Error("a value was changed")
	}
}

func TestCanonicalNumbers(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{1, `1`},
		{uint8(2), `2`},
		{int64(-3), `-3`},
		{0.1, `0.1`},
		{1e21, `1e+21`},
		{math.Copysign(0, -1), `-0`},
		{1 << 53, `9007199254740992`},
		{1<<53 + 1, `"9007199254740993"`},
		{uint64(math.MaxUint64), `"18446744073709551615"`},
		{json.Number("-0"), `0`},
		{json.Number("1.50"), `1.5`},
		{float32(0.5), `0.5`},
		{[]int{1, 2}, `[1,2]`},
		{json.RawMessage(`{"b":1,"a":9007199254740993}`), `{"a":"9007199254740993","b":1}`},
		{cred.SecretString("hunter2"), `"[redacted]"`},
	} {
		got := canonical(t, 0, Event{Kind: "k", Time: testTime, Detail: map[string]any{"v": c.in}})
		if want := `"detail":{"v":` + c.want + `}}`; !strings.HasSuffix(got, want) {
			t.Errorf("%T %v: %s; want …%s", c.in, c.in, got, want)
		}
		if _, _, err := Parse([]byte(got)); err != nil {
			t.Errorf("%T %v does not parse: %v", c.in, c.in, err)
		}
	}
}

func TestCanonicalReplacesInvalidUTF8(t *testing.T) {
	got := canonical(t, 0, Event{Kind: "k", Time: testTime, Peer: "a\xffb\\\\ufffd\ufffd"})
	if want := `"peer":"a` + "\ufffd" + `b\\\\ufffd` + "\ufffd" + `"}`; !strings.HasSuffix(got, want) {
		t.Errorf("got %s; want …%s", got, want)
	}
	if _, _, err := Parse([]byte(got)); err != nil {
		t.Error(err)
	}
	_, err := Canonical(0, Event{Kind: "k", Time: testTime, Detail: map[string]any{"\xff": 1, "\xfe": 2}})
	refused(t, err, "same name")
}

func TestCanonicalRefuses(t *testing.T) {
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	actor := &Principal{}
	for range 100 {
		actor = &Principal{Actor: actor}
	}
	loop := map[string]any{}
	loop["self"] = loop
	for name, c := range map[string]struct {
		seq  uint64
		e    Event
		word string
	}{
		"no kind":    {0, Event{Time: testTime}, "kind"},
		"no time":    {0, Event{Kind: "k"}, "time"},
		"seq":        {1 << 63, Event{Kind: "k", Time: testTime}, "sequence"},
		"year 10000": {0, Event{Kind: "k", Time: testTime.AddDate(9000, 0, 0)}, "JSON"},
		"NaN":        {0, Event{Kind: "k", Time: testTime, Detail: map[string]any{"v": math.NaN()}}, "JSON"},
		"channel":    {0, Event{Kind: "k", Time: testTime, Detail: map[string]any{"v": make(chan int)}}, "JSON"},
		"deep":       {0, Event{Kind: "k", Time: testTime, Detail: map[string]any{"v": deep}}, "JSON"},
		"loop":       {0, Event{Kind: "k", Time: testTime, Detail: loop}, "JSON"},
		"actors":     {0, Event{Kind: "k", Time: testTime, Principal: actor}, "JSON"},
		"approvals":  {0, Event{Kind: "k", Time: testTime, Approvals: []Approval{{By: *actor}}}, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Canonical(c.seq, c.e)
			refused(t, err, c.word)
		})
	}
}

func TestCanonicalLimit(t *testing.T) {
	e := Event{Kind: "k", Time: testTime}
	rest := MaxEntry - len(canonical(t, 0, e)) - len(`,"peer":""`)
	e.Peer = strings.Repeat("x", rest)
	if got := canonical(t, 0, e); len(got) != MaxEntry {
		t.Fatalf("%d bytes", len(got))
	}
	e.Peer += "x"
	_, err := Canonical(0, e)
	refused(t, err, "65536", "65535")
}

// What is encoded before its place is known ends as Canonical writes it, the limit included.
func TestEncodedAt(t *testing.T) {
	e := Event{Kind: "k", Time: testTime, Peer: "p\xff"}
	x, err := Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{0, 1, 9, 10, 1234567890, math.MaxInt64} {
		b, err := x.At(seq)
		if err != nil || string(b) != canonical(t, seq, e) {
			t.Errorf("%d: %s, %v", seq, b, err)
		}
	}
	_, err = x.At(1 << 63)
	refused(t, err, "sequence")

	e.Peer = strings.Repeat("x", MaxEntry-len(canonical(t, 0, Event{Kind: "k", Time: testTime}))-len(`,"peer":""`))
	if x, err = Encode(e); err != nil {
		t.Fatal(err)
	}
	if b, err := x.At(9); err != nil || len(b) != MaxEntry {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	_, err = x.At(10)
	refused(t, err, "65536", "65535")
	e.Peer += "x"
	_, err = Encode(e)
	refused(t, err, "65536", "65535")
}

func TestParseRefuses(t *testing.T) {
	const good = `{"seq":3,"kind":"k","time":"2026-03-04T05:06:07.89Z","peer":"p","detail":{"a":1,"b":{"c":"<"}}}`
	if _, _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"unknown member":        {`"peer"`, `"pear"`},
		"other case":            {`"peer"`, `"Peer"`},
		"repeated member":       {`"peer":"p"`, `"peer":"q","peer":"p"`},
		"repeated claim":        {`"a":1`, `"a":1,"a":1`},
		"unsorted":              {`"a":1,"b":{"c":"<"}`, `"b":{"c":"<"},"a":1`},
		"seq behind":            {`"seq":3,"kind":"k"`, `"kind":"k","seq":3`},
		"no seq":                {`"seq":3,`, ``},
		"negative seq":          {`"seq":3`, `"seq":-3`},
		"seq as fraction":       {`"seq":3`, `"seq":3.0`},
		"space":                 {`,"peer"`, `, "peer"`},
		"line feed":             {`}}}`, "}}}\n"},
		"trailing":              {`}}}`, "}}}{}"},
		"escaped":               {`"<"`, `"\u003c"`},
		"escaped name":          {`"peer"`, `"pee\u0072"`},
		"invalid UTF-8":         {`"p"`, "\"\xff\""},
		"replacement escaped":   {`"p"`, `"\ufffd"`},
		"number":                {`"a":1`, `"a":1.0`},
		"exponent":              {`"a":1`, `"a":1e0`},
		"large integer":         {`"a":1`, `"a":9007199254740993`},
		"empty member":          {`"peer":"p"`, `"peer":""`},
		"null":                  {`"peer":"p"`, `"peer":null`},
		"time zone":             {`07.89Z`, `07.89+00:00`},
		"other zone":            {`05:06:07.89Z`, `07:06:07.89+02:00`},
		"trailing zero":         {`07.89Z`, `07.890Z`},
		"kind missing":          {`"kind":"k",`, ``},
		"truncated":             {`}}}`, `}}`},
		"not an object":         {good, `[]`},
		"null itself":           {good, `null`},
		"nothing":               {good, ``},
		"too long":              {`"p"`, `"` + strings.Repeat("p", MaxEntry) + `"`},
		"nested beyond reading": {`"a":1`, `"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70)},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, edit[0], edit[1], 1)
			if bad == good {
				t.Fatal("the edit does not apply")
			}
			_, _, err := Parse([]byte(bad))
			refused(t, err, "canonical")
		})
	}
}

// Groups that are unknown and no groups are two things in the log too.
func TestCanonicalKeepsUnknownGroups(t *testing.T) {
	for _, groups := range [][]string{nil, {}, {"g"}} {
		_, e, err := Parse([]byte(canonical(t, 0, Event{Kind: "k", Time: testTime, Principal: &Principal{Groups: groups}})))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(groups, e.Principal.Groups); diff != "" {
			t.Error(diff)
		}
	}
}

// What comes out of Parse is what went into Canonical, and is written as the same bytes again.
func TestParseGivesTheEventBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seq, e := rapid.Uint64Max(math.MaxInt64).Draw(t, "seq"), drawEvent(t)
		b, err := Canonical(seq, e)
		if err != nil {
			t.Fatal(err)
		}
		gotSeq, got, err := Parse(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" || gotSeq != seq {
			t.Fatalf("seq %d, %d\n%s", seq, gotSeq, diff)
		}
		if again, err := Canonical(gotSeq, got); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v\n%s\n%s", err, b, again)
		}
		if !json.Valid(b) || bytes.ContainsAny(b, "\n\r") {
			t.Fatalf("not one line of JSON: %q", b)
		}
	})
}

func drawEvent(t *rapid.T) Event {
	text := rapid.String()
	draw := func(label string) string { return text.Draw(t, label) }
	e := Event{Kind: Kind("k" + draw("kind")), Time: drawTime(t), Grant: cred.GrantID(draw("grant")), Peer: draw("peer")}
	if rapid.Bool().Draw(t, "principal") {
		e.Principal = &Principal{
			Provider: draw("provider"), Subject: draw("sub"), Kind: cred.KindPerson,
			Groups: rapid.SliceOfN(text, 0, 3).Draw(t, "groups"), Claims: drawMap(t, 3), Actor: &Principal{Subject: draw("actor")},
			Cautions: rapid.MapOfN(text, text, 0, 2).Draw(t, "cautions"),
		}
	}
	if rapid.Bool().Draw(t, "request") {
		e.Request = &Request{
			Target: draw("target"), Params: rapid.MapOfN(text, text, 0, 3).Draw(t, "params"),
			TTLSeconds: rapid.Int64().Draw(t, "ttl"), Reason: draw("reason"), Binding: draw("binding"),
		}
		e.Decision = &Decision{Exempt: draw("exempt"), Demand: drawDemand(t)}
	}
	if rapid.Bool().Draw(t, "lease") {
		e.Lease = &Lease{ID: cred.LeaseID(draw("lease id")), NotAfter: drawTime(t), Revocable: true}
		e.Approvals = []Approval{{At: drawTime(t), By: Principal{Claims: drawMap(t, 2)}, Groups: []string{draw("group")}, Standing: draw("standing")}}
	}
	e.Detail = drawMap(t, 3)
	return e
}

func drawDemand(t *rapid.T) *cred.Demand {
	duration := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "nanoseconds")) })
	return rapid.Ptr(rapid.Custom(func(t *rapid.T) cred.Demand {
		quorum := cred.Quorum{Group: rapid.String().Draw(t, "group"), Count: rapid.Int().Draw(t, "count")}
		return cred.Demand{AllOf: []cred.Quorum{quorum}, Within: duration.Draw(t, "within"), Remind: duration.Draw(t, "remind"), Fresh: duration.Draw(t, "fresh")}
	}), true).Draw(t, "demand")
}

func drawTime(t *rapid.T) time.Time {
	sec := rapid.Int64Range(-60_000_000_000, 250_000_000_000).Draw(t, "seconds")
	return time.Unix(sec, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
}

func drawMap(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		out[rapid.String().Draw(t, "name")] = drawValue(t, depth-1)
	}
	return out
}

func drawValue(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 3+min(depth, 2)).Draw(t, "type") {
	case 0:
		return rapid.String().Draw(t, "string")
	case 1:
		return rapid.Float64().Draw(t, "number")
	case 2:
		return rapid.Bool().Draw(t, "bool")
	case 4:
		return drawMap(t, depth)
	case 5:
		return []any{drawValue(t, depth-1), nil}
	}
	return nil
}

func TestLeafHash(t *testing.T) {
	// The leaf hash of an empty entry, as RFC 6962's test vectors have it.
	const want = "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="
	if got := LeafHash(nil).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
