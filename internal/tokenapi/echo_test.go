package tokenapi_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// encodings are the forms in which a server may quote what it was sent.
var encodings = map[string]func(string) string{
	"as it is": func(s string) string { return s },
	"form":     url.QueryEscape,
	"path":     url.PathEscape,
	"each byte": func(s string) string {
		var out strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&out, "%%%02x", c)
		}
		return out.String()
	},
	"JSON": func(s string) string {
		b, _ := json.Marshal(s)
		return strings.ReplaceAll(string(b[1:len(b)-1]), "/", `\/`)
	},
	"JSON, each character": func(s string) string {
		var out strings.Builder
		for _, c := range s {
			fmt.Fprintf(&out, `\u%04X`, c)
		}
		return out.String()
	},
	"HTML":       html.EscapeString,
	"upper case": strings.ToUpper,
	"hex":        func(s string) string { return hex.EncodeToString([]byte(s)) },
	"base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64url":  func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"Basic":      func(s string) string { return base64.StdEncoding.EncodeToString([]byte("daypass:" + s)) },
	"Basic as RFC 6749 has it": func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("day+pass:" + url.QueryEscape(s)))
	},
	"a body in base64": func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("grant_type=x&client_secret=" + url.QueryEscape(s) + "&scope=read"))
	},
	"form twice":   func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"form in JSON": func(s string) string { b, _ := json.Marshal(url.QueryEscape(s)); return string(b[1 : len(b)-1]) },
}

// TestNoEchoIsShown holds that nothing of a secret comes back in a server's text: whatever the secret is made
// of, in whatever form the text has it or a part of it, and whatever stands around it.
func TestNoEchoIsShown(t *testing.T) {
	const enough = 10 // characters in a row that would tell something
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				secret := rapid.StringMatching(`[A-Za-z0-9+/=._~-]{12,80}|[ -~]{12,40}|[!-/:-@]{12,30}|[a-zé"\\<&/%+ ]{12,30}`).Draw(rt, "secret")
				echo := encode(secret)
				from := rapid.IntRange(0, len(echo)-enough).Draw(rt, "from")
				if name != "as it is" { // its end may be of something else, or half a character
					from = 0
				}
				r := tokenapi.NewRequest("x")
				r.Hide(cred.SecretString("of no use here"))
				r.Hide(cred.SecretString(secret))
				before := rapid.SampledFrom([]string{"", "no such client: ", "<p>", `"`, "secret="}).Draw(rt, "before")
				after := rapid.SampledFrom([]string{"", " is wrong", "</p>", `"}`, "&scope=read"}).Draw(rt, "after")
				got := r.Clean(before+echo[from:]+after, 4096)
				for i := from; i+enough <= len(echo); i++ {
					if part := echo[i : i+enough]; strings.Contains(got, part) && strings.Trim(part, "?") != "" {
						rt.Fatalf("%q of the secret %q is in %q", part, secret, got)
					}
				}
			})
		})
	}
}

// TestWhatIsNoEchoIsShown holds that the rest of a server's words reaches the log.
func TestWhatIsNoEchoIsShown(t *testing.T) {
	r := tokenapi.NewRequest("x")
	r.Hide(cred.SecretString("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkYXlwYXNzIn0.c2lnbmF0dXJl"))
	r.Hide(cred.SecretString("pä"))
	for text, want := range map[string]string{
		"AADSTS700213: No matching federated identity record found for presented assertion subject 'x'.": "",
		"Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).":      "",
		"100% of <it> is\n\x1b[31mé":                                 "100% of <it> is??[31m?",
		"bad token eyJhbGciOiJSUzI1NiJ9.eyJzdWIi, issuer: https://x": "bad token [redacted], issuer: https://x",
		"bad token:eyjhbgcioijsuzi1nij9":                             "bad token:[redacted]",
		strings.Repeat("y", 300):                                     strings.Repeat("y", 200),
		"eyJhbGciO eyJhbGciO eyJhbGciO":                              "[redacted] [redacted] [redacted]",
		"":                                                           "",
	} {
		if want == "" {
			want = text
		}
		if got := r.Clean(text, 200); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	if got := r.Clean("eyJhbGciO eyJhbGciO", 19); len(got) > 19 {
		t.Errorf("%d bytes", len(got))
	}
}

// TestCallErrorsHoldNoToken has a REST API send back the token, in each form.
func TestCallErrorsHoldNoToken(t *testing.T) {
	const token = `glpat-"q/+%& of daypass`
	for name, encode := range encodings {
		a := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "bad token: "+encode(token))
		})
		_, err := a.Do(t.Context(), tokenapi.Call{Method: "GET", Path: "/x", Token: cred.SecretString(token), Want: 200})
		if err == nil || strings.Contains(err.Error(), encode(token)) || !strings.Contains(err.Error(), "[redacted]") || !strings.Contains(err.Error(), "status 403") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzClean holds that a text of any bytes comes out bounded and printable, and without the secret.
func FuzzClean(f *testing.F) {
	f.Add("no such client: s3cret-of-daypass", "s3cret-of-daypass", 300)
	f.Add(`%73\u0033&#99;ret-of`, "s3cret-of", 20)
	f.Add("\xff\xfe", "\xff", 1)
	f.Fuzz(func(t *testing.T, text, secret string, longest int) {
		longest = max(longest%1000, 0)
		r := tokenapi.NewRequest("x")
		r.Hide(cred.SecretString(secret))
		got := r.Clean(text, longest)
		if len(got) > longest && got != "[redacted]" || strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Fatalf("%q", got)
		}
		if len(secret) >= 8 && strings.Contains(strings.ToLower(got), strings.ToLower(secret)) && !strings.Contains("[redacted]", secret) {
			t.Fatalf("%q shows %q", got, secret)
		}
	})
}
