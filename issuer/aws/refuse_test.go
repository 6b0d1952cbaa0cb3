package aws_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
)

const unavailable, invalid = cred.Unavailable, cred.Invalid

// TestAnswers: each way in which STS says no, and what it means.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		kind   cred.Kind
		reason string
		tries  int
		open   bool // a session may have been made
	}{
		"access denied":      {403, "AccessDenied", invalid, "SOURCE_REFUSED", 1, false},
		"expired":            {400, "ExpiredTokenException", unavailable, "CLOCK_SKEWED", 1, false},
		"not accepted":       {400, "InvalidIdentityToken", unavailable, "IDENTITY_REFUSED", 1, false},
		"claim rejected":     {403, "IDPRejectedClaim", unavailable, "IDENTITY_REFUSED", 1, false},
		"keys unreachable":   {400, "IDPCommunicationError", unavailable, "KEYS_UNREACHABLE", 3, false},
		"bad policy":         {400, "MalformedPolicyDocument", invalid, "POLICY_MALFORMED", 1, false},
		"too large":          {400, "PackedPolicyTooLarge", invalid, "POLICY_TOO_LARGE", 1, false},
		"region is off":      {403, "RegionDisabledException", unavailable, "REGION_DISABLED", 1, false},
		"bad value":          {400, "ValidationError", invalid, "SOURCE_REFUSED", 1, false},
		"a code of tomorrow": {400, "SomethingNew", invalid, "SOURCE_REFUSED", 1, false},
		"throttled":          {400, "Throttling", unavailable, "", 3, false},
		"throttled, as 503":  {503, "ThrottlingException", unavailable, "", 3, false},
		"429":                {429, "", unavailable, "", 3, false},
		"no API":             {400, "InvalidAction", unavailable, "", 1, false},
		"a proxy's refusal":  {403, "", unavailable, "", 1, false},
		"a proxy's login":    {407, "", unavailable, "", 1, false},
		"500":                {500, "InternalFailure", unavailable, "", 1, true},
		"503":                {503, "ServiceUnavailable", unavailable, "", 1, true},
		"502 of a proxy":     {502, "", unavailable, "", 1, true},
		"204":                {204, "", unavailable, "", 1, true},
		"304":                {304, "", unavailable, "", 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := newCloud(t)
			cl.instead = func(w http.ResponseWriter, _ int) bool {
				if c.code == "" {
					w.WriteHeader(c.status)
				} else {
					cl.fail(w, stsNS, c.status, c.code, "no")
				}
				return true
			}
			_, _, err := open(t, config(cl)).Issue(t.Context(), spec(inHalfAnHour(), nil))
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != c.kind || e.Reason != c.reason || e.Public == "" {
				t.Errorf("got %v, want kind %v and reason %q", err, c.kind, c.reason)
			}
			if got := cred.KindOf(err) == unavailable && !errors.Is(err, issuer.ErrNotIssued); got != c.open {
				t.Errorf("leaves open whether a session was made: %v, want %v", got, c.open)
			}
			if cl.minted != c.tries {
				t.Errorf("asked %d times, want %d", cl.minted, c.tries)
			}
		})
	}
}

// TestTriesAgain: what passes by itself is waited for, with a fresh ID token each time.
func TestTriesAgain(t *testing.T) {
	for _, code := range []string{"IDPCommunicationError", "Throttling"} {
		c := newCloud(t)
		c.instead = func(w http.ResponseWriter, n int) bool {
			if n < 3 {
				c.fail(w, stsNS, 400, code, "try again")
			}
			return n < 3
		}
		if _, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil)); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if len(c.seen) != 3 || c.seen[0].Get("WebIdentityToken") == c.seen[2].Get("WebIdentityToken") {
			t.Errorf("%s: asked %d times, or with one token", code, len(c.seen))
		}
	}
}

// TestTriesEndWithTheDeadline: where no time is left, what AWS said last is told, and at once.
func TestTriesEndWithTheDeadline(t *testing.T) {
	for name, header := range map[string]string{"by the deadline": "", "by what AWS wants": "3600"} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.instead = func(w http.ResponseWriter, _ int) bool {
				if header != "" {
					w.Header().Set("Retry-After", header)
				}
				c.fail(w, stsNS, 400, "Throttling", "Rate exceeded")
				return true
			}
			ctx, cancel := context.WithTimeout(t.Context(), 1399*time.Millisecond) // the third pause does not fit
			defer cancel()
			_, _, err := open(t, config(c)).Issue(ctx, spec(inHalfAnHour(), nil))
			wantNotIssued(t, err, "")
			if most := map[string]int{"": 3, "3600": 1}[header]; ctx.Err() != nil || c.minted < 1 || c.minted > most {
				t.Errorf("asked %d times, and the deadline: %v", c.minted, ctx.Err())
			}
			if wait, ok := cred.RetryAfter(err); ok != (header != "") || ok && wait != time.Hour {
				t.Errorf("to be tried again after %v", wait)
			}
		})
	}
}

// TestLongerThanTheRoleAllows: AWS says only that a value is wrong.
func TestLongerThanTheRoleAllows(t *testing.T) {
	c := newCloud(t)
	_, _, err := open(t, config(c)).Issue(t.Context(), spec(time.Now().Add(2*time.Hour), nil))
	wantInvalid(t, err, "DURATION_TOO_LONG")
	if text := cred.PublicText(err); !strings.Contains(text, "maximum session duration") || !strings.Contains(text, "max_duration") {
		t.Errorf("says %q", text)
	}
}

func TestTrustPolicyWithoutTagsOrSourceIdentity(t *testing.T) {
	c := newCloud(t)
	c.mayTag = false
	_, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), map[string]string{"tags": "a=b"}))
	wantInvalid(t, err, "SOURCE_REFUSED")
	if text := cred.PublicText(err); !strings.Contains(text, "sts:TagSession") || !strings.Contains(text, "sts:SetSourceIdentity") {
		t.Errorf("says %q", text)
	}
}

// TestClock: the broker's clock is behind AWS', or ahead of it.
func TestClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": 10 * time.Minute, "ahead": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.ahead = ahead
			_, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
			wantNotIssued(t, err, "CLOCK_SKEWED")
		})
	}
	t.Run("yet a session is made", func(t *testing.T) {
		c := newCloud(t)
		c.ahead = 10 * time.Minute
		cfg := config(c)
		cfg.Source = source(c.ring, c.now)
		_, _, err := open(t, cfg).Issue(t.Context(), spec(inHalfAnHour(), nil))
		wantLost(t, err)
		if text := cred.PublicText(err); len(c.sessions) != 1 || !strings.Contains(text, "clock") {
			t.Errorf("%d sessions, and the error says %q", len(c.sessions), text)
		}
	})
}

// TestEdDSA: AWS verifies no such signature, and the broker says where to look.
func TestEdDSA(t *testing.T) {
	c := newCloud(t)
	var err error
	if c.ring, err = token.NewKeyRing(token.EdDSA, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, _, err = open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	wantNotIssued(t, err, "IDENTITY_REFUSED")
	if !strings.Contains(cred.PublicText(err), "ES256") {
		t.Errorf("says %q", cred.PublicText(err))
	}
}

func TestTokenLength(t *testing.T) {
	for n, fits := range map[int]bool{3: false, 4: true, 20_000: true, 20_001: false} {
		c := newCloud(t)
		cfg := config(c)
		cfg.Source = func(context.Context, string, map[string]any) (cred.Secret, error) {
			return cred.SecretString(strings.Repeat("x", n)), nil
		}
		_, _, err := open(t, cfg).Issue(t.Context(), spec(inHalfAnHour(), nil))
		if fits {
			wantNotIssued(t, err, "IDENTITY_REFUSED") // it arrives, and is no JWT
		} else {
			wantInvalid(t, err, "TOKEN_TOO_LONG")
		}
		if (c.minted > 0) != fits {
			t.Errorf("%d characters: asked %d times", n, c.minted)
		}
	}
}

func TestPackedPolicyTooLarge(t *testing.T) {
	c := newCloud(t)
	var tags []string
	for n := range 14 {
		tags = append(tags, fmt.Sprintf("t%d=%s", n, strings.Repeat("v", 200)))
	}
	_, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), map[string]string{"tags": strings.Join(tags, ",")}))
	wantInvalid(t, err, "POLICY_TOO_LARGE")
	if c.minted != 1 {
		t.Errorf("asked %d times", c.minted)
	}
}

// TestSomethingElseThanAsked: a success that is not the session that was asked for is thrown away, and
// counts as made.
func TestSomethingElseThanAsked(t *testing.T) {
	replace := func(old, by string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, old) {
				panic("the fake's answer has no " + old)
			}
			return strings.Replace(text, old, by, 1)
		}
	}
	for name, edit := range map[string]func(string) string{
		"another role":            replace("assumed-role/"+roleName+"/", "assumed-role/admin/"),
		"another account":         replace("sts::"+account, "sts::210987654321"),
		"another session":         replace("assumed-role/"+roleName+"/gr_", "assumed-role/"+roleName+"/gr-"),
		"another source identity": replace("<SourceIdentity>gr_", "<SourceIdentity>gr-"),
		"no namespace":            replace(" xmlns=\""+stsNS+"\"", ""),
		"another namespace":       replace(stsNS, iamNS),
		"another action":          func(s string) string { return strings.ReplaceAll(s, "AssumeRoleWithWebIdentity", "AssumeRole") },
		"no end":                  replace("<Expiration>", "<Expiration>x"),
		"no key":                  replace("<AccessKeyId>ASIA", "<AccessKeyId>"+strings.Repeat("x", 128)),
		"two keys":                replace("<AccessKeyId>", "<AccessKeyId>ASIAAAAAAAAAAAAAAAAA</AccessKeyId><AccessKeyId>"),
		"two credentials":         replace("<Credentials>", "<Credentials></Credentials><Credentials>"),
		"an empty token":          replace("<SessionToken>", "<SessionToken/><X>"),
		"a token of two lines":    replace("<SessionToken>IQo", "<SessionToken>IQo\nX-Evil: 1"),
		"a token with an entity":  replace("<SessionToken>IQo", "<SessionToken>IQo&#10;"),
		"an entity of its own":    replace("<SessionToken>", "<SessionToken>&x;"),
		"a DOCTYPE":               func(s string) string { return `<!DOCTYPE x [<!ENTITY x "y">]>` + s },
		"a second document":       func(s string) string { return s + s },
		"half of it":              func(s string) string { return s[:len(s)/2] },
		"nothing":                 func(string) string { return "" },
		"JSON":                    func(string) string { return `{"AssumeRoleWithWebIdentityResponse":{}}` },
		"deep":                    replace("<PackedPolicySize>6", "<PackedPolicySize>"+strings.Repeat("<x>", 20)+strings.Repeat("</x>", 20)),
		"an error with status 200": func(string) string {
			return `<ErrorResponse xmlns="` + stsNS + `"><Error><Code>AccessDenied</Code></Error></ErrorResponse>`
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.edit = edit
			if name == "an empty token" {
				c.edit = func(s string) string {
					return strings.Replace(edit(s), "</SessionToken>", "</X>", 1)
				}
			}
			got, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
			wantLost(t, err)
			if len(got.Fields) > 0 || len(c.sessions) != 1 {
				t.Errorf("gave out %d fields of %d sessions", len(got.Fields), len(c.sessions))
			}
		})
	}
}

// TestAnswerInAnotherOrder: white space, order, comments, CDATA and further elements do not matter.
func TestAnswerInAnotherOrder(t *testing.T) {
	c := newCloud(t)
	c.edit = func(s string) string {
		s = strings.ReplaceAll(s, "<Audience>", "<!-- x --><Novelty a='b'><Deep/></Novelty>\n<Audience>")
		s = strings.ReplaceAll(s, "<SessionToken>", "<SessionToken>\n  <![CDATA[")
		return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + strings.ReplaceAll(s, "</SessionToken>", "]]>\n</SessionToken>")
	}
	got, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	if err != nil || got.Fields["session_token"].RevealString() != c.only(t).token {
		t.Errorf("got %d fields, %v", len(got.Fields), err)
	}
}

// TestTargets: what a target may ask for. Nothing is sent for one that can't work.
func TestTargets(t *testing.T) {
	many := func(n int, part string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(part, i)
		}
		return strings.Join(parts, ",")
	}
	const statement = `{"Statement":[{"Sid":"%s"}]}`
	policy := func(n int) string { return fmt.Sprintf(statement, strings.Repeat("ä", n-len(statement)+2)) }
	for name, c := range map[string]struct {
		params map[string]string
		edit   func(*issuer.Spec)
		want   string // a reason; empty: it works
	}{
		"50 tags":                  {params: map[string]string{"tags": many(50, "t%d=v")}},
		"51 tags":                  {params: map[string]string{"tags": many(51, "t%d=v")}, want: "PARAM_INVALID"},
		"a long tag":               {params: map[string]string{"tags": strings.Repeat("ü", 128) + "=" + strings.Repeat("v", 256)}},
		"too long a name":          {params: map[string]string{"tags": strings.Repeat("k", 129) + "=v"}, want: "PARAM_INVALID"},
		"too long a value":         {params: map[string]string{"tags": "k=" + strings.Repeat("v", 257)}, want: "PARAM_INVALID"},
		"a tag with =":             {params: map[string]string{"tags": "k=a=b c/d+e@f:1"}},
		"a tag without a value":    {params: map[string]string{"tags": "k"}, want: "PARAM_INVALID"},
		"an empty value":           {params: map[string]string{"tags": "k="}, want: "PARAM_INVALID"},
		"no tags":                  {params: map[string]string{"tags": ""}, want: "PARAM_INVALID"},
		"a reserved tag":           {params: map[string]string{"tags": "AWS:x=v"}, want: "PARAM_INVALID"},
		"a tag twice":              {params: map[string]string{"tags": "Team=a,team=b"}, want: "PARAM_INVALID"},
		"a tag twice, small first": {params: map[string]string{"tags": "team=a,TEAM=b"}, want: "PARAM_INVALID"},
		"a tag of odd letters":     {params: map[string]string{"tags": "k=a*"}, want: "PARAM_INVALID"},
		"transitive, but no tag":   {params: map[string]string{"tags": "a=b", "transitive_tags": "c"}, want: "PARAM_INVALID"},
		"ten policies":             {params: map[string]string{"policy_arns": many(10, "arn:aws:iam::aws:policy/p%d")}},
		"eleven policies":          {params: map[string]string{"policy_arns": many(11, "arn:aws:iam::aws:policy/p%d")}, want: "POLICY_TOO_LARGE"},
		"a policy twice":           {params: map[string]string{"policy_arns": "arn:aws:iam::aws:policy/p,arn:aws:iam::aws:policy/p"}, want: "PARAM_INVALID"},
		"no policies":              {params: map[string]string{"policy_arns": ""}, want: "PARAM_INVALID"},
		"a role for a policy":      {params: map[string]string{"policy_arns": role}, want: "PARAM_INVALID"},
		"no policy":                {params: map[string]string{"policy": ""}, want: "POLICY_MALFORMED"},
		"no JSON":                  {params: map[string]string{"policy": "{"}, want: "POLICY_MALFORMED"},
		"an empty object":          {params: map[string]string{"policy": "{}"}, want: "POLICY_MALFORMED"},
		"a list":                   {params: map[string]string{"policy": "[]"}, want: "POLICY_MALFORMED"},
		"null":                     {params: map[string]string{"policy": "null"}, want: "POLICY_MALFORMED"},
		"statements twice":         {params: map[string]string{"policy": `{"Statement":[],"Statement":[]}`}, want: "POLICY_MALFORMED"},
		"two policies in one":      {params: map[string]string{"policy": `{"Statement":[]}{"Statement":[]}`}, want: "POLICY_MALFORMED"},
		"a character too wide":     {params: map[string]string{"policy": `{"Statement":[{"Sid":"€"}]}`}, want: "POLICY_MALFORMED"},
		"as large as can be":       {params: map[string]string{"policy": policy(2048)}},
		"too large a policy":       {params: map[string]string{"policy": policy(2049)}, want: "POLICY_TOO_LARGE"},
		"white space counts not":   {params: map[string]string{"policy": strings.Repeat(" \n", 3000) + `{"Statement":[]}`}},
		"a parameter of others":    {params: map[string]string{"scope": "x"}, want: "PARAM_UNKNOWN"},
		"another type":             {edit: func(s *issuer.Spec) { s.Target.Credential.Type = cred.Bearer }, want: "FIELD_MISSING"},
		"the type":                 {edit: func(s *issuer.Spec) { s.Target.Credential.Type = cred.AWS }},
		"renamed fields":           {edit: func(s *issuer.Spec) { s.Target.Credential.Fields = map[string]string{"a": "b"} }, want: "FIELD_MISSING"},
		"no role":                  {edit: func(s *issuer.Spec) { s.Target.Credential.Path = "" }, want: "ROLE_INVALID"},
		"a placeholder in a role":  {edit: func(s *issuer.Spec) { s.Target.Credential.Path = "arn:aws:iam::123456789012:role/{x}" }, want: "ROLE_INVALID"},
		"a role with a line break": {edit: func(s *issuer.Spec) { s.Target.Credential.Path = role + "\n" }, want: "ROLE_INVALID"},
		"an odd grant":             {edit: func(s *issuer.Spec) { s.Grant = "gr 1" }, want: "SESSION_NAME_INVALID"},
		"too long a grant":         {edit: func(s *issuer.Spec) { s.Grant = cred.GrantID(strings.Repeat("g", 65)) }, want: "SESSION_NAME_INVALID"},
		"ended":                    {edit: func(s *issuer.Spec) { s.NotAfter = time.Now() }, want: "ENDED"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCloud(t)
			s := spec(inHalfAnHour(), maps.Clone(c.params))
			if c.edit != nil {
				c.edit(&s)
			}
			_, _, err := open(t, config(cl)).Issue(t.Context(), s)
			if c.want == "" && err != nil {
				t.Error(err)
			} else if c.want != "" {
				wantInvalid(t, err, c.want)
			}
			if (cl.minted > 0) != (c.want == "") {
				t.Errorf("asked %d times", cl.minted)
			}
		})
	}
}

// TestSourceFails: without an ID token nothing is asked.
func TestSourceFails(t *testing.T) {
	c := newCloud(t)
	cfg := config(c)
	cfg.Source = func(context.Context, string, map[string]any) (cred.Secret, error) { return cred.Secret{}, io.EOF }
	_, _, err := open(t, cfg).Issue(t.Context(), spec(inHalfAnHour(), nil))
	wantNotIssued(t, err, "")
	if c.minted > 0 {
		t.Error("AWS was asked all the same")
	}
}
