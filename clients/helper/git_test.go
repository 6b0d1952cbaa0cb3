package helper_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/clients/helper"
	"github.com/daypass-io/daypass/cred"
)

// source gives one credential, and remembers what it was asked.
type source struct {
	granted helper.Granted
	err     error
	asked   []cred.Request
	dropped int
}

func (s *source) Get(_ context.Context, want cred.Request) (helper.Granted, error) {
	s.asked = append(s.asked, want)
	return s.granted, s.err
}

func (s *source) Drop(_ context.Context, want cred.Request, means func(helper.Granted) bool) error {
	s.asked = append(s.asked, want)
	if means(s.granted) {
		s.dropped++
	}
	return s.err
}

func fields(pairs ...string) map[string]cred.Secret {
	out := map[string]cred.Secret{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = cred.SecretString(pairs[i+1])
	}
	return out
}

func place(t testing.TB, s string) helper.Place {
	t.Helper()
	p, err := helper.ParsePlace(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	oldGit = "protocol=https\nhost=git.example.com\n"
	newGit = "capability[]=authtype\ncapability[]=state\n" + oldGit
)

var (
	end   = time.Unix(2_000_000_000, 0)
	token = helper.Granted{Grant: "gr_1", Fields: fields("token", "tok"), End: end}
)

func TestGitGet(t *testing.T) {
	const basic = "username=x-access-token\npassword=tok\npassword_expiry_utc=2000000000\n"
	const state = "capability[]=state\nstate[]=daypass.grant=gr_1\n"
	pair := helper.Granted{Grant: "gr_1", Fields: fields("username", "v-ann", "password", "p=w d"), End: end}
	for name, c := range map[string]struct {
		question string
		granted  helper.Granted
		setup    func(*helper.Setup)
		want     string
	}{
		"git before 2.46":             {oldGit, token, nil, basic},
		"bearer, git before 2.46":     {oldGit, token, bearer, basic},
		"git 2.46":                    {newGit, token, nil, basic + state},
		"bearer, git 2.46":            {newGit, token, bearer, "capability[]=authtype\nauthtype=Bearer\ncredential=tok\nephemeral=1\npassword_expiry_utc=2000000000\n" + state},
		"authtype without state":      {"capability[]=authtype\n" + oldGit, token, bearer, "capability[]=authtype\nauthtype=Bearer\ncredential=tok\nephemeral=1\npassword_expiry_utc=2000000000\n"},
		"capabilities taken back":     {"capability[]=authtype\ncapability[]=\n" + oldGit, token, bearer, basic},
		"a capability without its []": {"capability=authtype\n" + oldGit, token, bearer, basic},
		"user and password":           {newGit, pair, bearer, "username=v-ann\npassword=p=w d\npassword_expiry_utc=2000000000\n" + state},
		"no end":                      {oldGit, helper.Granted{Fields: fields("token", "tok")}, nil, "username=x-access-token\npassword=tok\n"},
		"another user name":           {oldGit, token, func(s *helper.Setup) { s.User = "oauth2" }, "username=oauth2\npassword=tok\npassword_expiry_utc=2000000000\n"},
		"what nobody knows":           {oldGit + "path=a.git\nwwwauth[]=Basic realm=\"x\"\nfuture=1\nfuture[]=2\nusername=bob\nquit=\n", token, nil, basic},
		"lines after the empty one":   {oldGit + "\nhost=evil.example.com\n", token, nil, basic},
		"no line feed at the end":     {strings.TrimSuffix(oldGit, "\n"), token, nil, basic},
		"the host in capitals":        {"protocol=https\nhost=GIT.example.com\n", token, nil, basic},
		"the last host counts":        {"host=evil.example.com\n" + oldGit, token, nil, basic},
		"another host":                {"protocol=https\nhost=evil.example.com\n", token, nil, ""},
		"a host that begins alike":    {"protocol=https\nhost=git.example.com.evil.example.com\n", token, nil, ""},
		"a letter that folds":         {"protocol=http\u017f\nhost=git.example.com\n", token, nil, ""},
		"another port":                {"protocol=https\nhost=git.example.com:8443\n", token, nil, ""},
		"plain http":                  {"protocol=http\nhost=git.example.com\n", token, nil, ""},
		"no host":                     {"protocol=https\n", token, nil, ""},
		"nothing":                     {"", token, nil, ""},
		"below the path":              {oldGit + "path=octo/repo.git\n", token, within("octo"), basic},
		"the path itself":             {oldGit + "path=octo\n", token, within("octo"), basic},
		"a path that begins alike":    {oldGit + "path=octopus/repo.git\n", token, within("octo"), ""},
		"no path":                     {oldGit, token, within("octo"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &source{granted: c.granted}
			setup := helper.Setup{Place: place(t, "git.example.com"), Want: cred.Request{Target: "code", Scopes: []string{"read"}}, Source: s}
			if c.setup != nil {
				c.setup(&setup)
			}
			var out strings.Builder
			if err := (helper.Git{}).Answer(t.Context(), setup, "get", strings.NewReader(c.question), &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Error(diff)
			}
			if asked := len(s.asked); asked != min(1, len(c.want)) {
				t.Errorf("the source was asked %d times", asked)
			}
		})
	}
}

func bearer(s *helper.Setup) { s.Bearer = true }

func within(path string) func(*helper.Setup) {
	return func(s *helper.Setup) { s.Place.Path = path }
}

// TestGitRefusals: git is told not to look elsewhere, and nothing of a credential is written.
func TestGitRefusals(t *testing.T) {
	denied := &cred.Error{Kind: cred.Denied, Op: "exchange", Public: "no"}
	for name, c := range map[string]struct {
		source source
		setup  func(*helper.Setup)
		kind   cred.Kind
		text   string
	}{
		"denied":           {source{err: denied}, nil, cred.Denied, "no"},
		"of no use to git": {source{granted: helper.Granted{Fields: fields("access_key_id", "a")}}, nil, cred.Invalid, `"code" gives neither`},
		"two lines":        {source{granted: helper.Granted{Fields: fields("token", "a\nhost=evil.example.com")}}, nil, cred.Invalid, "more than one line"},
		"a user of two":    {source{granted: helper.Granted{Fields: fields("username", "a\rb", "password", "x")}}, nil, cred.Invalid, "more than one line"},
		"no repository":    {source{granted: token}, func(s *helper.Setup) { s.PathParam = "repositories" }, cred.Invalid, "credential.https://git.example.com.useHttpPath true"},
	} {
		t.Run(name, func(t *testing.T) {
			setup := helper.Setup{Place: place(t, "git.example.com"), Want: cred.Request{Target: "code"}, Source: &c.source}
			if c.setup != nil {
				c.setup(&setup)
			}
			var out strings.Builder
			err := helper.Git{}.Answer(t.Context(), setup, "get", strings.NewReader(newGit), &out)
			if out.String() != "quit=1\n" || cred.KindOf(err) != c.kind || !strings.Contains(cred.PublicText(err), c.text) {
				t.Errorf("wrote %q, %v", out.String(), err)
			}
		})
	}
}

func TestGitPathBecomesAParameter(t *testing.T) {
	for path, want := range map[string]string{"octo/repo.git": "octo/repo", "octo/repo": "octo/repo", "octo/repo.git/": "octo/repo"} {
		s := &source{granted: token}
		setup := helper.Setup{
			Place: place(t, "git.example.com"), PathParam: "repositories", Source: s,
			Want: cred.Request{Target: "code", Params: map[string]string{"permissions": "contents:read"}},
		}
		var out strings.Builder
		if err := (helper.Git{}).Answer(t.Context(), setup, "get", strings.NewReader(oldGit+"path="+path+"\n"), &out); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]cred.Request{{Target: "code", Params: map[string]string{"permissions": "contents:read", "repositories": want}}}, s.asked); diff != "" {
			t.Error(diff)
		}
	}
}

// TestGitErase: what git says that it could not use is forgotten, and nothing else.
func TestGitErase(t *testing.T) {
	for name, c := range map[string]struct {
		question string
		want     int
	}{
		"our password":       {oldGit + "username=x-access-token\npassword=tok\n", 1},
		"an older password":  {oldGit + "username=x-access-token\npassword=old\n", 0},
		"our credential":     {newGit + "authtype=Bearer\ncredential=tok\n", 1},
		"an older one":       {newGit + "authtype=Bearer\ncredential=old\n", 0},
		"our grant":          {newGit + "state[]=other.x=1\nstate[]=daypass.grant=gr_1\npassword=tok\n", 1},
		"an older grant":     {newGit + "state[]=daypass.grant=gr_0\npassword=tok\n", 0},
		"nothing said of it": {oldGit, 1},
		"another host":       {"protocol=https\nhost=evil.example.com\npassword=tok\n", 0},
	} {
		s := &source{granted: token}
		setup := helper.Setup{Place: place(t, "git.example.com"), Want: cred.Request{Target: "code"}, Source: s}
		var out strings.Builder
		err := helper.Git{}.Answer(t.Context(), setup, "erase", strings.NewReader(c.question), &out)
		if err != nil || out.Len() > 0 || s.dropped != c.want {
			t.Errorf("%s: dropped %d, wrote %q, %v", name, s.dropped, out.String(), err)
		}
	}
	s := &source{err: errors.New("full disk")}
	setup := helper.Setup{Place: place(t, "git.example.com"), Source: s}
	var out strings.Builder
	if err := (helper.Git{}).Answer(t.Context(), setup, "erase", strings.NewReader(oldGit), &out); err == nil || out.Len() > 0 {
		t.Errorf("a failure to forget: %v, wrote %q", err, out.String())
	}
}

func TestGitOtherOperations(t *testing.T) {
	for operation, want := range map[string]string{
		"store": "", "future": "", "": "",
		"capability": "version 0\ncapability authtype\ncapability state\n",
	} {
		s := &source{granted: token}
		setup := helper.Setup{Place: place(t, "git.example.com"), Source: s}
		var out strings.Builder
		err := helper.Git{}.Answer(t.Context(), setup, operation, strings.NewReader("nonsense"), &out)
		if err != nil || out.String() != want || len(s.asked) > 0 {
			t.Errorf("%q: wrote %q, asked %v, %v", operation, out.String(), s.asked, err)
		}
	}
}

func TestGitQuestionsThatAreNone(t *testing.T) {
	for name, question := range map[string]string{
		"no equals sign":    "protocol\n",
		"a carriage return": "protocol=https\r\nhost=git.example.com\r\n",
		"a NUL":             "protocol=https\nhost=git.example.com\x00\n",
		"too long a line":   "path=" + strings.Repeat("a", 65536) + "\n" + oldGit,
		"too many lines":    strings.Repeat("a=b\n", 1001) + oldGit,
	} {
		s := &source{granted: token}
		setup := helper.Setup{Place: place(t, "git.example.com"), Source: s}
		var out strings.Builder
		err := helper.Git{}.Answer(t.Context(), setup, "get", strings.NewReader(question), &out)
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != "NOT_GIT" || out.Len() > 0 || len(s.asked) > 0 {
			t.Errorf("%s: wrote %q, %v", name, out.String(), err)
		}
	}
}

// FuzzGit: whatever the question, an answer is lines of key=value that end with a line feed, and there is
// one only for our own host.
func FuzzGit(f *testing.F) {
	for _, q := range []string{oldGit, newGit, newGit + "path=a/b.git\n", "protocol=https\nhost=evil.example.com\n", "=\n=", "a\n"} {
		f.Add(q, "tok")
	}
	f.Fuzz(func(t *testing.T, question, secret string) {
		setup := helper.Setup{Place: helper.Place{Scheme: "https", Host: "git.example.com"}, Bearer: true, Source: &source{granted: helper.Granted{Grant: "gr_1", Fields: fields("token", secret)}}}
		var out strings.Builder
		err := helper.Git{}.Answer(t.Context(), setup, "get", strings.NewReader(question), &out)
		for line := range strings.Lines(out.String()) {
			if key, _, ok := strings.Cut(line, "="); !ok || key == "" || !strings.HasSuffix(line, "\n") {
				t.Errorf("a line is %q", line)
			}
		}
		if out.Len() > 0 && !strings.Contains(strings.ToLower(question), "host=git.example.com") {
			t.Errorf("answered %q to %q", out.String(), question)
		}
		if n := strings.Count(out.String(), "\n"); err == nil && n != 0 && (n < 2 || n > 6) {
			t.Errorf("an answer of %d lines", n)
		}
	})
}

func TestParsePlace(t *testing.T) {
	for in, want := range map[string]helper.Place{
		"git.example.com":              {Scheme: "https", Host: "git.example.com"},
		"GIT.example.com:8443":         {Scheme: "https", Host: "git.example.com:8443"},
		"https://git.example.com/a/b/": {Scheme: "https", Host: "git.example.com", Path: "a/b"},
		"git.example.com/octo":         {Scheme: "https", Host: "git.example.com", Path: "octo"},
		"http://127.0.0.1:8080/code":   {Scheme: "http", Host: "127.0.0.1:8080", Path: "code"},
		"http://[::1]:8080":            {Scheme: "http", Host: "[::1]:8080"},
		"http://localhost":             {Scheme: "http", Host: "localhost"},
	} {
		if got, err := helper.ParsePlace(in); err != nil || got != want {
			t.Errorf("%s: %+v (%v)", in, got, err)
		}
	}
	for _, in := range []string{"", "/path", "http://git.example.com", "ssh://git.example.com", "https://ann@git.example.com", "git.example.com?x", "git.example.com#x", "https://", "http://127.0.0.1.example.com", "a b"} {
		if got, err := helper.ParsePlace(in); err == nil {
			t.Errorf("%q is taken as %+v", in, got)
		}
	}
	if u := place(t, "git.example.com/octo/").URL(); u != "https://git.example.com/octo" {
		t.Errorf("URL %s", u)
	}
}

func TestToolsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, tool := range helper.Tools() {
		if tool.Name == "" || tool.Summary == "" || tool.Helper == nil || seen[tool.Name] || tool.Program != "" && seen[tool.Program] {
			t.Errorf("tool %+v", tool)
		}
		seen[tool.Name], seen[tool.Program] = true, true
	}
	if len(seen) < 2 {
		t.Error("the table is empty")
	}
}
