package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

func ocsfOf(t *testing.T, e Event) map[string]any {
	t.Helper()
	l := newTestLog(t, e)
	out := l.export(FormatOCSF, nil)
	if bytes.Count(out, []byte("\n")) != 1 || out[len(out)-1] != '\n' {
		t.Fatalf("not one line: %q", out)
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	leaf := LeafHash(l.entries[0])
	if got["raw_data"] != string(l.entries[0]) || at(got, "metadata", "uid") != hex.EncodeToString(leaf[:]) {
		t.Errorf("raw_data %v, uid %v", got["raw_data"], at(got, "metadata", "uid"))
	}
	return got
}

// at returns what stands at a path, nil where nothing does.
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func TestOCSFClasses(t *testing.T) {
	use := func(protocol, method string) *Use {
		return &Use{ID: "us_1", Protocol: protocol, Method: method, Host: "api.example.com"}
	}
	type row struct {
		class, activity, severity, status float64
	}
	for name, c := range map[string]struct {
		e    Event
		want row
	}{
		"identity refused":  {Event{Kind: IdentityRefused}, row{3002, 1, 3, 2}},
		"exchange denied":   {Event{Kind: ExchangeDenied}, row{3002, 4, 2, 2}},
		"redeem refused":    {Event{Kind: RedeemRefused}, row{3002, 4, 3, 2}},
		"exchange granted":  {Event{Kind: ExchangeGranted}, row{3003, 1, 1, 1}},
		"access denied":     {Event{Kind: AccessDenied}, row{6003, 99, 3, 2}},
		"audit exported":    {Event{Kind: AuditExported}, row{6003, 2, 1, 1}},
		"lease intent":      {Event{Kind: LeaseIntent}, row{3005, 1, 1, 99}},
		"lease issued":      {Event{Kind: LeaseIssued}, row{3005, 1, 1, 1}},
		"lease failed":      {Event{Kind: LeaseFailed}, row{3005, 1, 2, 2}},
		"lease revoking":    {Event{Kind: LeaseRevoking}, row{3005, 2, 1, 99}},
		"lease revoked":     {Event{Kind: LeaseRevoked}, row{3005, 2, 1, 1}},
		"lease expired":     {Event{Kind: LeaseExpired}, row{3005, 2, 1, 1}},
		"lease renewing":    {Event{Kind: LeaseRenewing}, row{3005, 1, 1, 99}},
		"lease renewed":     {Event{Kind: LeaseRenewed}, row{3005, 1, 1, 1}},
		"lease not renewed": {Event{Kind: LeaseNotRenewed}, row{3005, 1, 2, 2}},
		"lease missing":     {Event{Kind: LeaseMissing}, row{3005, 2, 3, 1}},
		"lease stray":       {Event{Kind: LeaseStray}, row{3005, 2, 4, 0}},
		"lease doubted":     {Event{Kind: LeaseDoubted}, row{3005, 2, 4, 0}},
		"own intent":        {Event{Kind: OwnIntent}, row{3005, 1, 1, 99}},
		"own issued":        {Event{Kind: OwnIssued}, row{3005, 1, 1, 1}},
		"own failed":        {Event{Kind: OwnFailed}, row{3005, 1, 2, 2}},
		"own unknown":       {Event{Kind: OwnUnknown}, row{3005, 1, 3, 0}},
		"own revoking":      {Event{Kind: OwnRevoking}, row{3005, 2, 1, 99}},
		"own revoked":       {Event{Kind: OwnRevoked}, row{3005, 2, 1, 1}},
		"alarm":             {Event{Kind: AlarmRaised}, row{3005, 1, 5, 2}},
		"lease unknown":     {Event{Kind: LeaseUnknown}, row{3005, 2, 4, 0}},
		"grant revoked":     {Event{Kind: GrantRevoked}, row{3005, 2, 1, 1}},
		"grant expired":     {Event{Kind: GrantExpired}, row{3005, 2, 1, 1}},
		"use begins":        {Event{Kind: UseBegin, Use: use("http", "get")}, row{6003, 2, 1, 99}},
		"use ends":          {Event{Kind: UseEnd, Use: use("http", "POST")}, row{6003, 1, 1, 1}},
		"put":               {Event{Kind: UseEnd, Use: use("http", "PUT")}, row{6003, 3, 1, 1}},
		"delete":            {Event{Kind: UseEnd, Use: use("http", "DELETE")}, row{6003, 4, 1, 1}},
		"odd method":        {Event{Kind: UseEnd, Use: use("http", "PROPFIND")}, row{6003, 99, 1, 1}},
		"upstream refused":  {Event{Kind: UseEnd, Use: &Use{Method: "GET", Status: 403, Ended: "complete"}}, row{6003, 2, 2, 2}},
		"cut off":           {Event{Kind: UseEnd, Use: &Use{Method: "GET", Status: 200, Ended: "revoked"}}, row{6003, 2, 2, 2}},
		"use refused":       {Event{Kind: UseRefused, Use: use("http", "GET")}, row{6003, 2, 3, 2}},
		"use lost":          {Event{Kind: UseLost, Use: use("postgres", "")}, row{6005, 3, 3, 0}},
		"a query":           {Event{Kind: UseEnd, Use: use("postgres", "query")}, row{6005, 4, 1, 1}},
		"a command":         {Event{Kind: UseEnd, Use: use("redis", "GET")}, row{6005, 4, 1, 1}},
		"use without parts": {Event{Kind: UseEnd}, row{6003, 99, 1, 1}},
		"rotation":          {Event{Kind: RotationStep, Rotation: &Rotation{ID: "ro_1", Issuer: "vault"}}, row{3001, 3, 1, 1}},
		"rotation fails":    {Event{Kind: RotationStep, Error: &Error{Kind: "unavailable"}}, row{3001, 3, 4, 2}},
		"broker starts":     {Event{Kind: BrokerStarted}, row{6002, 3, 1, 1}},
		"proxy starts":      {Event{Kind: ProxyStarted}, row{6002, 3, 1, 1}},
		"policy":            {Event{Kind: PolicyLoaded}, row{6002, 8, 1, 1}},
		"key":               {Event{Kind: KeyRotated}, row{6002, 8, 1, 1}},
		"break-glass":       {Event{Kind: ExchangeGranted, Decision: &Decision{Allowed: true, Exempt: "break_glass"}}, row{3003, 1, 3, 1}},
		"on call":           {Event{Kind: ExchangeGranted, Decision: &Decision{Allowed: true, Exempt: "on_call/primary"}}, row{3003, 1, 1, 1}},
		"exchange pending":  {Event{Kind: ExchangePending}, row{3003, 1, 1, 99}},
		"approved":          {Event{Kind: RequestReviewed, Approvals: []Approval{{Approve: true}}}, row{3005, 1, 1, 1}},
		"refused":           {Event{Kind: RequestReviewed, Approvals: []Approval{{Approve: false}}}, row{3005, 1, 2, 2}},
		"review refused":    {Event{Kind: ReviewRefused}, row{3005, 1, 3, 2}},
		"signed off":        {Event{Kind: ReviewSignedOff}, row{3005, 1, 1, 1}},
		"overdue":           {Event{Kind: ReviewOverdue}, row{3005, 1, 4, 2}},
		"standing drafted":  {Event{Kind: StandingProposed}, row{3005, 1, 1, 99}},
		"standing approved": {Event{Kind: StandingReviewed, Approvals: []Approval{{Approve: true}}}, row{3005, 1, 1, 1}},
		"standing refused":  {Event{Kind: StandingReviewed, Approvals: []Approval{{}}}, row{3005, 1, 2, 2}},
		"standing revoked":  {Event{Kind: StandingRevoked}, row{3005, 2, 1, 1}},
		"locked":            {Event{Kind: LockSet}, row{3005, 2, 3, 1}},
		"unlocked":          {Event{Kind: LockLifted}, row{3005, 1, 1, 1}},
		"notice sent":       {Event{Kind: NoticeSent}, row{6003, 99, 1, 1}},
		"notice failed":     {Event{Kind: NoticeFailed}, row{6003, 99, 3, 2}},
		"policy refused":    {Event{Kind: PolicyRefused}, row{6002, 8, 4, 2}},
		"a later kind":      {Event{Kind: "new.thing"}, row{0, 99, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c.e.Time = testTime
			got := ocsfOf(t, c.e)
			number := func(name string) float64 { n, _ := got[name].(float64); return n }
			r := row{number("class_uid"), number("activity_id"), number("severity_id"), number("status_id")}
			if r != c.want {
				t.Errorf("got %+v, want %+v", r, c.want)
			}
			if number("type_uid") != r.class*100+r.activity || number("category_uid") != float64(int(r.class)/1000) {
				t.Errorf("type_uid %v, category_uid %v", got["type_uid"], got["category_uid"])
			}
			checkRequired(t, got)
		})
	}
}

// checkRequired checks the attributes that the schema requires of each class and object.
func checkRequired(t *testing.T, got map[string]any) {
	t.Helper()
	for _, path := range map[float64][][]string{
		0:    {},
		3001: {{"user", "name"}},
		3002: {{"user", "name"}, {"service", "name"}},
		3003: {{"user", "name"}, {"privileges"}},
		3005: {{"user", "name"}, {"privileges"}},
		6002: {{"app", "name"}, {"app", "vendor_name"}},
		6003: {{"actor", "user", "name"}, {"api", "operation"}, {"src_endpoint"}},
		6005: {{"actor", "user", "name"}, {"database", "name"}, {"src_endpoint"}},
	}[got["class_uid"].(float64)] {
		if v := at(got, path...); v == nil || v == "" {
			t.Errorf("%v is missing", path)
		}
	}
	for _, path := range [][]string{
		{"time"},
		{"severity_id"},
		{"metadata", "version"},
		{"metadata", "uid"},
		{"metadata", "product", "name"},
		{"metadata", "product", "vendor_name"},
	} {
		if at(got, path...) == nil {
			t.Errorf("%v is missing", path)
		}
	}
	if got["status_id"] == 99.0 && got["status"] == nil {
		t.Error("status_id Other without the source's status")
	}
}

func TestOCSFParts(t *testing.T) {
	got := ocsfOf(t, fullEvent())
	for _, c := range []struct {
		want any
		path []string
	}{
		{float64(testTime.UnixMilli()), []string{"time"}},
		{"1.5.0", []string{"metadata", "version"}},
		{0.0, []string{"metadata", "sequence"}},
		{"gr_1", []string{"metadata", "correlation_uid"}},
		{"use.end", []string{"metadata", "event_code"}},
		{"u1", []string{"actor", "user", "uid"}},
		{"U One", []string{"actor", "user", "name"}},
		{"https://id.example.com", []string{"actor", "user", "domain"}},
		{1.0, []string{"actor", "user", "type_id"}},
		{"agent", []string{"actor", "app_name"}},
		{"192.0.2.1", []string{"src_endpoint", "ip"}},
		{5.0, []string{"src_endpoint", "port"}},
		{"api.example.com", []string{"dst_endpoint", "hostname"}},
		{"GET", []string{"api", "operation"}},
		{"orders-db", []string{"api", "service", "name"}},
		{"us_1", []string{"api", "request", "uid"}},
		{"GET", []string{"http_request", "http_method"}},
		{"/v1", []string{"http_request", "url", "path"}},
		{200.0, []string{"http_response", "code"}},
		{3.0, []string{"duration"}},
		{"NO_RULE_MATCHES", []string{"status_code"}},
		{"=no rule", []string{"status_detail"}},
		{"use.end by u1 for orders-db", []string{"message"}},
		{3.0, []string{"unmapped", "n"}},
	} {
		if diff := cmp.Diff(c.want, at(got, c.path...)); diff != "" {
			t.Errorf("%v: %s", c.path, diff)
		}
	}
	exempt := fullEvent()
	exempt.Kind, exempt.Error = ExchangeGranted, nil
	if got := ocsfOf(t, exempt); got["status_detail"] != "without approval: break_glass" || got["status_code"] != nil {
		t.Errorf("status %v, %v", got["status_code"], got["status_detail"])
	}
	granted := fullEvent()
	granted.Kind, granted.Error, granted.Decision.Allowed = ExchangeGranted, nil, false
	got = ocsfOf(t, granted)
	if diff := cmp.Diff([]any{"read", "write"}, got["privileges"]); diff != "" {
		t.Error(diff)
	}
	if at(got, "session", "uid") != "gr_1" || got["status_code"] != "RULE" || got["status_detail"] != "c" {
		t.Errorf("session %v, status %v, %v", got["session"], got["status_code"], got["status_detail"])
	}
}

func TestOCSFUserTypes(t *testing.T) {
	for kind, want := range map[cred.PrincipalKind]int{cred.KindPerson: 1, cred.KindWorkload: 4, cred.KindProxy: 4, cred.KindAgent: 99, "": 0} {
		if got := ocsfUserOf(&Principal{Subject: "s", Kind: kind}); got.TypeID != want || got.Name != "s" {
			t.Errorf("%q: %+v", kind, got)
		}
	}
}

func TestOCSFEndpoints(t *testing.T) {
	for in, want := range map[string]*ocsfEndpoint{
		"":                   nil,
		"192.0.2.1":          {IP: "192.0.2.1"},
		"[2001:db8::1]:443":  {IP: "2001:db8::1", Port: 443},
		"db.example.com:5":   {Hostname: "db.example.com", Port: 5},
		"db.example.com":     {Hostname: "db.example.com"},
		"192.0.2.1:99999999": {IP: "192.0.2.1"},
	} {
		if diff := cmp.Diff(want, ocsfEndpointOf(in)); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

// Every kind that event.go declares has a class: a new one must not fall through to the base event.
func TestOCSFKnowsEveryKind(t *testing.T) {
	kinds := declaredKinds(t)
	if len(kinds) < 20 {
		t.Fatalf("only %d kinds were found", len(kinds))
	}
	for _, k := range kinds {
		if c := ocsfClassOf(Event{Kind: k}); c.class == ocsfBaseEvent {
			t.Errorf("%s has no class", k)
		}
	}
}

func declaredKinds(t *testing.T) []Kind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, Kind(text))
		}
		return true
	})
	return kinds
}
