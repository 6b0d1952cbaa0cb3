package identity_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/cred"
)

func TestSeveralAudiences(t *testing.T) {
	i := unserved(t)
	p := provider(i)
	p.Audiences = []string{"one", "two"}
	v := newVerifier(t, atNoon, p)
	for _, aud := range []any{"one", "two", []string{"one"}, []string{"one", "two"}, []string{"two", "one"}} {
		if _, err := v.Verify(t.Context(), i.Sign(with(i, "aud", aud))); err != nil {
			t.Errorf("aud %v: %v", aud, err)
		}
	}
	for _, aud := range []any{"three", []string{"one", "three"}, []string{"one", "two", "three"}} {
		token := i.Sign(with(i, "aud", aud))
		_, err := v.Verify(t.Context(), token)
		refused(t, err, token, cred.Unauthenticated, "WRONG_AUDIENCE")
	}
}

// with returns a person's claims with one replaced.
func with(i *identitytest.Issuer, name string, value any) map[string]any {
	claims := i.PersonClaims(audience, "example-user")
	claims[name] = value
	return claims
}

func TestAge(t *testing.T) {
	i := unserved(t)
	for name, test := range map[string]struct {
		kind   cred.PrincipalKind
		maxAge time.Duration
		good   time.Duration
	}{
		"workload":   {cred.KindWorkload, 0, 10 * time.Minute},
		"person":     {cred.KindPerson, 0, time.Hour},
		"default":    {"", 0, time.Hour},
		"configured": {cred.KindPerson, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider(i)
			p.Kind, p.MaxAge = test.kind, test.maxAge
			v := newVerifier(t, atNoon, p)
			claims := i.GitHubClaims(audience, identitytest.GitHubJob{Life: 6 * time.Hour})
			claims["iat"] = noon.Add(-test.good - 30*time.Second).Unix()
			if _, err := v.Verify(t.Context(), i.Sign(claims)); err != nil {
				t.Errorf("at the end of %s and the skew: %v", test.good, err)
			}
			claims["iat"] = noon.Add(-test.good - 31*time.Second).Unix()
			token := i.Sign(claims)
			_, err := v.Verify(t.Context(), token)
			if e := refused(t, err, token, cred.Unauthenticated, "TOKEN_TOO_OLD"); e.Claim != "iat" {
				t.Errorf("claim %q, want iat", e.Claim)
			}
		})
	}
}

// TestLastSecond checks that the skew ends where it is said to.
func TestLastSecond(t *testing.T) {
	i := unserved(t)
	v := newVerifier(t, atNoon, provider(i))
	for _, test := range []struct {
		claim      string
		good, late int64 // seconds from now
		reason     string
	}{
		{"exp", -29, -30, "TOKEN_EXPIRED"}, {"nbf", 30, 31, "TOKEN_NOT_YET_VALID"}, {"iat", 30, 31, "TOKEN_NOT_YET_VALID"},
	} {
		claims := with(i, "iat", noon.Unix()-300)
		claims[test.claim] = noon.Unix() + test.good
		if _, err := v.Verify(t.Context(), i.Sign(claims)); err != nil {
			t.Errorf("%s %d s from now: %v", test.claim, test.good, err)
		}
		claims[test.claim] = noon.Unix() + test.late
		token := i.Sign(claims)
		_, err := v.Verify(t.Context(), token)
		refused(t, err, token, cred.Unauthenticated, test.reason)
	}
}

// TestTimesAgreeWithArithmetic checks every combination of three times and a skew against the rule
// written the other way round.
func TestTimesAgreeWithArithmetic(t *testing.T) {
	i := unserved(t)
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.Int64Range(-700, 700)
		exp, iat, nbf := seconds.Draw(t, "exp"), seconds.Draw(t, "iat"), seconds.Draw(t, "nbf")
		skew := rapid.Int64Range(1, 300).Draw(t, "skew")
		p := provider(i)
		p.Kind, p.Skew = cred.KindWorkload, time.Duration(skew)*time.Second
		v, err := identity.New([]identity.Provider{p}, atNoon)
		if err != nil {
			t.Fatal(err)
		}
		claims := i.PersonClaims(audience, "a")
		now := noon.Unix()
		claims["exp"], claims["iat"], claims["nbf"] = now+exp, now+iat, now+nbf
		_, err = v.Verify(t.Context(), i.Sign(claims, identitytest.WithAlg("EdDSA")))
		want := exp > -skew && iat <= skew && -iat <= 600+skew && nbf <= skew && exp > iat
		if (err == nil) != want {
			t.Fatalf("exp %d, iat %d, nbf %d, skew %d: got %v, want accepted %v", exp, iat, nbf, skew, err, want)
		}
	})
}

func TestCautions(t *testing.T) {
	i := unserved(t)
	p, _ := identity.Preset("github-actions")
	p.Issuer, p.Audiences, p.Client = i.URL(), []string{audience}, i.Client()
	v := newVerifier(t, atNoon, p)
	for event, want := range map[string]map[string]string{
		"pull_request_target": {"event_name": "pull_request_target"}, "workflow_run": {"event_name": "workflow_run"},
		"push": nil, "pull_request": nil, "workflow_dispatch": nil, "merge_group": nil,
	} {
		got, err := v.Verify(t.Context(), i.Sign(i.GitHubClaims(audience, identitytest.GitHubJob{Event: event})))
		if err != nil {
			t.Errorf("%s: %v", event, err)
		} else if diff := cmp.Diff(want, got.Principal.Cautions); diff != "" {
			t.Errorf("%s: cautions (-want +got):\n%s", event, diff)
		}
	}
	claims := i.GitHubClaims(audience, identitytest.GitHubJob{})
	claims["event_name"] = []string{"push", "workflow_run"}
	token := i.Sign(claims)
	_, err := v.Verify(t.Context(), token)
	if e := refused(t, err, token, cred.Unauthenticated, "CLAIM_INVALID"); e.Claim != "event_name" {
		t.Errorf("claim %q, want event_name", e.Claim)
	}
}

func TestRefusedClaimsOfEveryShape(t *testing.T) {
	i := unserved(t)
	p := provider(i)
	p.RefuseClaims = map[string][]string{"c": {"true", "7", "null", "bad"}}
	v := newVerifier(t, atNoon, p)
	for _, test := range []struct {
		value  any
		reason string // empty: accepted
	}{
		{"bad", "EVENT_REFUSED"},
		{true, "EVENT_REFUSED"},
		{7, "EVENT_REFUSED"},
		{nil, "EVENT_REFUSED"},
		{[]any{"good", "bad"}, "EVENT_REFUSED"},
		{map[string]any{}, "CLAIM_INVALID"},
		{[]any{[]any{"bad"}}, "CLAIM_INVALID"},
		{"good", ""},
		{false, ""},
		{7.5, ""},
		{[]any{}, ""},
		{"BAD", ""},
	} {
		token := i.Sign(with(i, "c", test.value))
		_, err := v.Verify(t.Context(), token)
		switch {
		case test.reason != "":
			if e := refused(t, err, token, cred.Unauthenticated, test.reason); e.Claim != "c" {
				t.Errorf("claim %q, want c", e.Claim)
			}
		case err != nil:
			t.Errorf("%v: %v", test.value, err)
		}
	}
}

func TestGroups(t *testing.T) {
	i := unserved(t)
	p := provider(i)
	p.GroupsClaim = "groups"
	v := newVerifier(t, atNoon, p)
	endpoint := map[string]any{"src1": map[string]any{"endpoint": i.URL() + "/groups"}}
	for name, test := range map[string]struct {
		change map[string]any
		want   []string // nil: unknown
	}{
		"listed":       {map[string]any{"groups": []string{"leads", "security"}}, []string{"leads", "security"}},
		"none":         {map[string]any{"groups": []string{}}, []string{}},
		"null":         {map[string]any{"groups": nil}, nil},
		"Entra":        {map[string]any{"groups": nil, "_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": endpoint}, nil},
		"Entra, mixed": {map[string]any{"groups": []string{"leads"}, "_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": endpoint}, nil},
		"unreadable":   {map[string]any{"groups": []string{"leads"}, "_claim_names": "groups"}, nil},
		"another name": {map[string]any{"groups": []string{"leads"}, "_claim_names": map[string]any{"roles": "src1"}}, []string{"leads"}},
	} {
		claims := i.PersonClaims(audience, "a")
		for claim, value := range test.change {
			claims[claim] = value
		}
		got, err := v.Verify(t.Context(), i.Sign(claims))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(test.want, got.Principal.Groups); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	claims := i.PersonClaims(audience, "a")
	delete(claims, "groups")
	if got, err := v.Verify(t.Context(), i.Sign(claims)); err != nil || got.Principal.Groups != nil {
		t.Errorf("absent: %v, %v, want unknown", got.Principal.Groups, err)
	}
	for _, groups := range []any{"leads", 1, true, []any{"leads", 1}, []any{nil}, map[string]any{"leads": true}} {
		token := i.Sign(with(i, "groups", groups))
		_, err := v.Verify(t.Context(), token)
		if e := refused(t, err, token, cred.Unauthenticated, "CLAIM_INVALID"); e.Claim != "groups" {
			t.Errorf("claim %q, want groups", e.Claim)
		}
	}
	unconfigured := newVerifier(t, atNoon, provider(i))
	if got, err := unconfigured.Verify(t.Context(), i.Sign(with(i, "groups", []string{"leads"}))); err != nil || got.Principal.Groups != nil {
		t.Errorf("without groups_claim: %v, %v, want unknown", got.Principal.Groups, err)
	}
}

func TestName(t *testing.T) {
	i := unserved(t)
	for name, test := range map[string]struct {
		kind   cred.PrincipalKind
		claim  string
		change map[string]any
		want   string
	}{
		"name":                {cred.KindPerson, "", nil, "Name of a"},
		"email":               {cred.KindPerson, "", map[string]any{"name": ""}, "a@example.com"},
		"unverified email":    {cred.KindPerson, "", map[string]any{"name": 1, "email_verified": false}, "a"},
		"unverified, as text": {cred.KindPerson, "", map[string]any{"name": nil, "email_verified": "false", "preferred_username": "nick"}, "nick"},
		"subject":             {cred.KindPerson, "", map[string]any{"name": nil, "email": nil, "preferred_username": nil}, "a"},
		"hidden text":         {cred.KindPerson, "", map[string]any{"name": "a\u202egnp", "email": "b\x1b[1m"}, "a"},
		"long":                {cred.KindPerson, "", map[string]any{"name": strings.Repeat("n", 257)}, "a@example.com"},
		"workload":            {cred.KindWorkload, "", nil, "a"},
		"configured":          {cred.KindWorkload, "preferred_username", map[string]any{"preferred_username": "nick"}, "nick"},
		"configured, absent":  {cred.KindPerson, "nickname", nil, "a"},
	} {
		p := provider(i)
		p.Kind, p.NameClaim = test.kind, test.claim
		claims := i.PersonClaims(audience, "a")
		for claim, value := range test.change {
			claims[claim] = value
		}
		if got, err := newVerifier(t, atNoon, p).Verify(t.Context(), i.Sign(claims)); err != nil || got.Principal.Name != test.want {
			t.Errorf("%s: got %q, %v, want %q", name, got.Principal.Name, err, test.want)
		}
	}
}

func TestGitLabJob(t *testing.T) {
	i := unserved(t)
	p, _ := identity.Preset("gitlab")
	p.Issuer, p.Audiences, p.Client, p.GroupsClaim = i.URL(), []string{audience}, i.Client(), "groups_direct"
	claims := i.GitLabClaims(audience, identitytest.GitLabJob{Project: "fork/project", JobProject: "example-group/example-project", JobProjectID: "9"})
	late := func() time.Time { return noon.Add(50 * time.Minute) } // the job runs for that long
	got, err := newVerifier(t, late, p).Verify(t.Context(), i.Sign(claims))
	if err != nil {
		t.Fatal(err)
	}
	if got.Principal.Subject != "project_path:fork/project:ref_type:branch:ref:main" || got.Principal.Claims["job_project_id"] != "9" || got.Principal.Claims["runner_id"] != 1.0 {
		t.Errorf("wrong principal %+v", got)
	}
	if value, present := got.Principal.Claims["ci_config_sha"]; !present || value != nil {
		t.Errorf("a null claim became %v, present %v", value, present)
	}
}
