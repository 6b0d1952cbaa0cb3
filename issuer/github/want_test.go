package github

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

func TestWanted(t *testing.T) {
	many := make([]string, maxRepositories+1)
	for n := range many {
		many[n] = fmt.Sprintf("r%d", n)
	}
	const one, plain = "api", "contents:write"
	type params = map[string]string
	for name, c := range map[string]struct {
		repositories, permissions string // the target's
		asked                     params
		want                      string // what comes out, or a reason
	}{
		"the ceiling":                 {"api,Web", plain, nil, "api web / contents:write"},
		"another parameter":           {one, plain, params{"branch": "main"}, "api / contents:write"},
		"a part":                      {"api,web", "contents:write,issues:read", params{"repositories": "web", "permissions": "contents:read"}, "web / contents:read"},
		"with the owner":              {"octo/api,web", plain, params{"repositories": "OCTO/Web,API"}, "web api / contents:write"},
		"the same twice":              {one, plain, params{"repositories": "api,API,octo/api"}, "api / contents:write"},
		"by a pattern":                {"svc-*", plain, params{"repositories": "svc-a,SVC-b"}, "svc-a svc-b / contents:write"},
		"500 repositories":            {"*", plain, params{"repositories": strings.Join(many[1:], ",")}, strings.Join(many[1:], " ") + " / contents:write"},
		"an equal level":              {one, plain, params{"permissions": plain}, "api / contents:write"},
		"501 repositories":            {"*", plain, params{"repositories": strings.Join(many, ",")}, "PARAM_INVALID"},
		"nothing":                     {one, plain, params{"repositories": ""}, "PARAM_INVALID"},
		"white space":                 {one, plain, params{"repositories": " "}, "PARAM_INVALID"},
		"an empty part":               {one, plain, params{"repositories": "api,"}, "PARAM_INVALID"},
		"a pattern from the caller":   {"*", plain, params{"repositories": "*"}, "PARAM_INVALID"},
		"a path":                      {"*", plain, params{"repositories": "../x"}, "BEYOND_TARGET"},
		"dots":                        {"*", plain, params{"repositories": ".."}, "PARAM_INVALID"},
		"two slashes":                 {"*", plain, params{"repositories": "octo/a/b"}, "PARAM_INVALID"},
		"no permission":               {one, plain, params{"permissions": ""}, "PARAM_INVALID"},
		"a permission twice":          {one, plain, params{"permissions": "contents:read,contents:write"}, "PARAM_INVALID"},
		"no level":                    {one, plain, params{"permissions": "contents"}, "PARAM_INVALID"},
		"a level that is none":        {one, plain, params{"permissions": "contents:all"}, "PARAM_INVALID"},
		"another repository":          {one, plain, params{"repositories": "web"}, "BEYOND_TARGET"},
		"another owner's":             {"*", plain, params{"repositories": "evil/api"}, "BEYOND_TARGET"},
		"a higher level":              {one, "contents:read", params{"permissions": plain}, "BEYOND_TARGET"},
		"admin for write":             {one, plain, params{"permissions": "contents:admin"}, "BEYOND_TARGET"},
		"another permission":          {one, plain, params{"permissions": "issues:read"}, "BEYOND_TARGET"},
		"a pattern, and nobody asks":  {"api,svc-*", plain, nil, "PARAM_MISSING"},
		"target without repositories": {"", plain, params{"repositories": one}, "TARGET_MISCONFIGURED"},
		"target without permissions":  {one, "", params{"permissions": plain}, "TARGET_MISCONFIGURED"},
		"target of another owner":     {"evil/api", plain, nil, "TARGET_MISCONFIGURED"},
		"target with a wrong level":   {one, "contents:all", nil, "TARGET_MISCONFIGURED"},
	} {
		src := cred.CredentialSource{Params: map[string]string{"owner": "octo", "repositories": c.repositories, "permissions": c.permissions}}
		w, err := wanted(src, c.asked)
		got := strings.Join(w.repositories, " ") + " / " + listed(w.permissions)
		if e, ok := errors.AsType[*cred.Error](err); ok {
			got = e.Reason
		}
		if got != c.want {
			t.Errorf("%s: %.100s, %v; want %.100s", name, got, err, c.want)
		}
	}
}

// TestEmptyIsNotEverything: the caller is told why an empty list is refused.
func TestEmptyIsNotEverything(t *testing.T) {
	src := cred.CredentialSource{Params: map[string]string{"owner": "octo", "repositories": "*", "permissions": "contents:read"}}
	for _, params := range []map[string]string{{"repositories": ""}, {"repositories": ","}, {"repositories": "api", "permissions": " "}} {
		if _, err := wanted(src, params); !strings.Contains(cred.PublicText(err), "an empty list does not stand for everything") {
			t.Errorf("%v: %v", params, err)
		}
	}
}

func TestCheckSource(t *testing.T) {
	good := func() cred.CredentialSource {
		return cred.CredentialSource{Params: map[string]string{"owner": "octo", "repositories": "api", "permissions": "contents:read"}}
	}
	for name, c := range map[string]struct {
		change func(*cred.CredentialSource)
		ok     bool
	}{
		"complete":             {func(*cred.CredentialSource) {}, true},
		"git":                  {func(s *cred.CredentialSource) { s.Type = cred.UserPassword }, true},
		"pinned":               {func(s *cred.CredentialSource) { s.Params["owner_id"] = "583231" }, true},
		"open repositories":    {func(s *cred.CredentialSource) { s.Params["repositories"] = "{repository}" }, true},
		"open permissions":     {func(s *cred.CredentialSource) { s.Params["permissions"] = "contents:{level}" }, true},
		"open owner":           {func(s *cred.CredentialSource) { s.Params["owner"], s.Params["repositories"] = "{owner}", "octo/api" }, true},
		"no owner":             {func(s *cred.CredentialSource) { delete(s.Params, "owner") }, false},
		"an owner with a path": {func(s *cred.CredentialSource) { s.Params["owner"] = "../app" }, false},
		"an owner_id":          {func(s *cred.CredentialSource) { s.Params["owner_id"] = "octo" }, false},
		"unknown parameter":    {func(s *cred.CredentialSource) { s.Params["repository"] = "api" }, false},
		"a path":               {func(s *cred.CredentialSource) { s.Path = "x" }, false},
		"fields":               {func(s *cred.CredentialSource) { s.Fields = map[string]string{"a": "token"} }, false},
		"type":                 {func(s *cred.CredentialSource) { s.Type = cred.AWS }, false},
		"no repositories":      {func(s *cred.CredentialSource) { s.Params["repositories"] = "" }, false},
		"no permissions":       {func(s *cred.CredentialSource) { delete(s.Params, "permissions") }, false},
	} {
		src := good()
		c.change(&src)
		if err := CheckSource(src); (err == nil) != c.ok || err != nil && cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := wanted(src, nil); !c.ok && err == nil {
			t.Errorf("%s: taken at issue", name)
		}
	}
}

// FuzzWanted holds that whatever a target and a caller say, no list is ever empty and nothing is
// beyond the target.
func FuzzWanted(f *testing.F) {
	f.Add("api,svc-*", "contents:write", "api", "contents:read", true)
	f.Add("*", "issues:read", "octo/x,y", "", false)
	f.Add("", "", ",", ":", true)
	f.Add("octo/a", "a:read,b:admin", "OCTO/A", "b:write", true)
	f.Fuzz(func(t *testing.T, repositories, permissions, askedRepositories, askedPermissions string, asks bool) {
		src := cred.CredentialSource{Params: map[string]string{"owner": "octo", "repositories": repositories, "permissions": permissions}}
		var params map[string]string
		if asks {
			params = map[string]string{"repositories": askedRepositories, "permissions": askedPermissions}
		}
		before := maps.Clone(src.Params)
		w, err := wanted(src, params)
		if diff := cmp.Diff(before, src.Params); diff != "" {
			t.Fatal(diff)
		}
		if err != nil {
			return
		}
		if len(w.repositories) == 0 || len(w.repositories) > maxRepositories || len(w.permissions) == 0 {
			t.Fatalf("asks for %d repositories and %d permissions", len(w.repositories), len(w.permissions))
		}
		for _, name := range w.repositories {
			within := false
			for _, c := range strings.Split(strings.ToLower(repositories), ",") {
				within = within || glob.Pattern(strings.TrimPrefix(strings.TrimSpace(c), "octo/")).Match(name)
			}
			if !within || strings.ContainsAny(name, "*/,") {
				t.Fatalf("%q is beyond %q", name, repositories)
			}
		}
		for name, level := range w.permissions {
			within := false
			for l, n := range levels {
				within = within || n >= levels[level] && strings.Contains(permissions, name+":"+l)
			}
			if !within || levels[level] == 0 {
				t.Fatalf("%s:%s is beyond %q", name, level, permissions)
			}
		}
	})
}

// FuzzReadToken holds that whatever GitHub answers, a token is taken only where the answer names what
// was asked and nothing else.
func FuzzReadToken(f *testing.F) {
	w := want{owner: "octo", repositories: []string{"api"}, permissions: map[string]string{"contents": "read"}}
	at := http.Header{"Date": {"Sun, 22 Nov 2026 02:00:00 GMT"}}
	seed := []byte(`{"token":"t","expires_at":"2026-11-22T03:00:00Z","permissions":{"contents":"read","metadata":"read"},"repository_selection":"selected","repositories":[{"full_name":"octo/api"}]}`)
	if _, err := readToken(w, tokenapi.Answer{Status: 201, Header: at, Body: seed}); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"token":"t","token":"u"}`))
	f.Add([]byte(`{"Token":"t","permissions":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		made, err := readToken(w, tokenapi.Answer{Status: 201, Header: at, Body: body})
		if err == nil && made.token.IsZero() {
			t.Fatal("taken without a token")
		}
		if token := made.token.RevealString(); strings.ContainsAny(token, " \r\n\x00") || len(token) > maxToken {
			t.Fatalf("%q would be sent in a header", token)
		}
		if err == nil && !(strings.Contains(strings.ToLower(string(body)), "api") || strings.Contains(string(body), `\u`)) {
			t.Fatalf("taken: %s", body)
		}
	})
}
