package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

func TestNoticesOfFull(t *testing.T) {
	c, err := Load("testdata/full.yaml", options)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Notices.Channels) != 4 || c.Notices.ConsoleURL != "https://daypass.example.com/console" {
		t.Fatalf("notices %+v", c.Notices)
	}
	siem, slack, teams, mail := c.Notices.Channels[0], c.Notices.Channels[1], c.Notices.Channels[2], c.Notices.Channels[3]
	if w := siem.Webhook; w.URL != "https://siem.example.com/daypass" || w.Secret.IsZero() || w.PreviousSecret.IsZero() || w.CAFile != "testdata/files/ca.pem" {
		t.Errorf("webhook %+v", w)
	}
	if teams.Teams.URL.RevealString() != "https://teams.example.com/workflows/1" {
		t.Errorf("teams %+v", teams.Teams)
	}
	if m := mail.SMTP; m.Address != "mail.example.com:587" || m.TLS != "starttls" || m.Username != "daypass" || m.Password.IsZero() || len(m.To) != 1 {
		t.Errorf("smtp %+v", m)
	}
	want := map[string]cred.Principal{"U0123456789": {
		Provider: "okta", Issuer: "https://example.okta.com", Subject: "00u1", Name: "Ada", Kind: cred.KindPerson,
		Claims: map[string]any{"email": "ada@example.com", "email_verified": true},
	}}
	if diff := cmp.Diff(want, c.SlackUsers(*slack.Slack)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNoticesFor(t *testing.T) {
	n := Notices{Routes: []NoticeRoute{
		{Groups: []string{"security", "leads"}, Channels: []string{"slack", "siem"}},
		{Groups: []string{"leads"}, Channels: []string{"mail"}},
		{Groups: []string{"quiet"}, Channels: nil},
		{Groups: []string{"*"}, Channels: []string{"rest"}},
	}}
	for _, c := range []struct {
		groups, want string
	}{
		{"security", "siem slack"},
		{"leads", "mail siem slack"},
		{"leads security", "mail siem slack"},
		{"other", "rest"},
		{"security other", "rest siem slack"},
		{"", "rest"},
		{"quiet", ""},
		{"*", "rest"},
	} {
		if got := strings.Join(n.For(strings.Fields(c.groups)), " "); got != c.want {
			t.Errorf("%q: %q, want %q", c.groups, got, c.want)
		}
	}
	if got := (Notices{}).For([]string{"security"}); len(got) != 0 {
		t.Errorf("without channels: %q", got)
	}
}

// Without routes each channel hears of everything. Away from the broker the secrets of channels are
// not there, and nobody misses them.
func TestNoticesElsewhere(t *testing.T) {
	text := []byte("server: { plain: true }\nnotices: { channels: [{ name: b, teams: { url: 'file:none' } }, { name: a, webhook: { url: 'https://x.example.com', secret: 'env:DAYPASS_TEST_NONE' } }] }")
	c, err := Parse("conf/daypass.yaml", text, Options{WithoutFiles: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, groups := range [][]string{nil, {"leads"}} {
		if got := c.Notices.For(groups); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("%q: %q", groups, got)
		}
	}
	if _, err := Parse("conf/daypass.yaml", text, Options{}); err == nil || strings.Count(err.Error(), "notices.channels") != 2 {
		t.Errorf("at the broker: %v", err)
	}
}

// TestNoticesPage: the configuration in docs/notices.md is one.
func TestNoticesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/notices.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("the page has no configuration")
	}
	dir := t.TempDir()
	secrets := regexp.MustCompile(`file:(keys/[a-z.]+)`).FindAllStringSubmatch(text, -1)
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil || len(secrets) != 5 {
		t.Fatal(err, secrets)
	}
	for _, m := range append(secrets, []string{"", "keys/sealing.key"}, []string{"", "keys/log.key"}) {
		if err := os.WriteFile(filepath.Join(dir, m[1]), []byte("https://teams.example.com/x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Parse(filepath.Join(dir, "daypass.yaml"), []byte("server: { plain: true }\n"+text), options)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Notices.For([]string{"security"}); !slices.Equal(got, []string{"siem", "slack-sec"}) {
		t.Errorf("security hears by %q", got)
	}
}
