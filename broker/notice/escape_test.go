package notice

import (
	"encoding/json"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/daypass-io/daypass/cred"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// hostile are texts that try to be more than text in one of the media.
var hostile = []string{
	"<!channel> <!here> <!everyone> <!subteam^S1>",
	"<https://evil.example.com|Open in daypass> &lt;!channel&gt;",
	"*Approved by security* _x_ ~y~ `z`",
	"[Open in daypass](https://evil.example.com) ![x](https://evil.example.com/x.png)",
	"<at>Ada</at> {{DATE(2017-02-14T06:00:00Z,SHORT)}} {{{DATE(x)}}}",
	"fine\r\nBcc: eve@example.com\r\n\r\nRequested by: Ada",
	"fine\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
	"one\nRequested by: Ada\n\nDecide before: never\u2028x\u2029y\x0bz\u0085",
	"\u202e",
	"\u202egro.elpmaxe \u2066x\u2069 \u200f",
	"=?utf-8?q?=0ABcc:_eve?=",
	"\x00\x1b[2J\x7f",
	"\xff\xfe",
	strings.Repeat("<", 5000),
	strings.Repeat("ä", 5000),
	strings.Repeat("x\n", 3000),
	"",
	"日本語のリクエスト",
}

// attack is a notice all of whose texts are hostile.
func attack(text string) Notice {
	n := pending()
	n.Requester, n.Actor, n.Target, n.Reason, n.Rule, n.Text = text, text, text, text, text, text
	n.Scopes, n.Groups = []string{text, text}, []string{text}
	n.Grant, n.Digest, n.Kind = cred.GrantID(text), text, RequestPending
	return n.clipped()
}

func TestHostileTexts(t *testing.T) {
	slack := newSlackRig(t)
	server := newMailServer(t)
	mails := server.sender(t, SMTPOptions{Console: console})
	for _, text := range hostile {
		n := attack(text)
		checkMessages(t, n)
		// And through the fakes, which refuse what their real ones would.
		if err := slack.sender.Send(within(t), n); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
		if err := mails.Send(within(t), n); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if got := len(server.mails()); got != len(hostile) {
		t.Errorf("%d mails of %d notices", got, len(hostile))
	}
	for _, m := range server.mails() {
		if len(m.to) != 2 || m.header.Get("Bcc") != "" || m.from != "FROM:<daypass@example.com>" {
			t.Errorf("mail %+v", m)
		}
	}
}

func FuzzTexts(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { checkMessages(t, attack(text)) })
}

// checkMessages checks that nothing in a notice is more than text in any medium.
func checkMessages(t *testing.T, n Notice) {
	t.Helper()
	checkSlack(t, n)
	checkTeams(t, n)
	checkMail(t, n)
}

// In Slack no text has a bracket that is not ours, and buttons have values of letters alone.
func checkSlack(t *testing.T, n Notice) {
	t.Helper()
	s := &Slack{o: SlackOptions{Users: map[string]cred.Principal{"U0ADA": {}}, SigningSecret: slackSigning(), Console: console}}
	blocks := parsed(t, s.blocks(n))
	for _, b := range blocks.([]any) {
		if err := verifyBlock(b.(map[string]any)); err != nil {
			t.Errorf("%v", err)
		}
	}
	walk(blocks, nil, func(path []string, text string) {
		last := path[len(path)-1]
		switch {
		case last == "text" && strings.ContainsAny(strings.TrimPrefix(strings.ReplaceAll(text, "\n> ", "\n"), "> "), "<>"):
			t.Errorf("Slack text %.80q", text)
		case last == "value" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/") != "":
			t.Errorf("a button's value is %.80q", text)
		case last == "url" && !strings.HasPrefix(text, console):
			t.Errorf("a button leads to %.80q", text)
		}
	})
	if title := mrkdwn(n.title(), 1000); strings.ContainsAny(title, "<>\n\r") {
		t.Errorf("title %.80q", title)
	}
}

// In Teams all text stands in TextRuns, without line ends and dates.
func checkTeams(t *testing.T, n Notice) {
	t.Helper()
	card := parsed(t, (&Teams{console: console}).card(n)).(map[string]any)
	for _, b := range card["body"].([]any) {
		block := b.(map[string]any)
		if block["type"] != "RichTextBlock" {
			t.Errorf("a %v in the card", block["type"])
		}
		for _, r := range block["inlines"].([]any) {
			run := r.(map[string]any)
			text := run["text"].(string)
			if run["type"] != "TextRun" || strings.Contains(text, "{{") || strings.ContainsFunc(text, unicode.IsControl) || run["selectAction"] != nil {
				t.Errorf("run %.80v", run)
			}
		}
	}
	for _, a := range card["actions"].([]any) {
		if url := a.(map[string]any)["url"].(string); !strings.HasPrefix(url, console) {
			t.Errorf("an action leads to %.80q", url)
		}
	}
}

var mailHeaders = []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To", "X-Daypass-Notice"}

// A mail has our headers and no others, and each of its lines begins as one of ours.
func checkMail(t *testing.T, n Notice) {
	t.Helper()
	s := &SMTP{o: SMTPOptions{Console: console}, from: &mail.Address{Address: "daypass@example.com"}, to: []*mail.Address{{Address: "ada@example.com"}}}
	raw := string(s.message(n))
	session := &mailSession{mailServer: &mailServer{}}
	if err := session.keep(raw); err != nil {
		t.Errorf("%v in\n%s", err, raw)
		return
	}
	m := session.letters[0]
	var names []string
	for name, values := range m.header {
		if names = append(names, name); len(values) != 1 {
			t.Errorf("%s is there %d times", name, len(values))
		}
	}
	if slices.Sort(names); !slices.Equal(names, mailHeaders) {
		t.Errorf("headers %v", names)
	}
	if strings.ContainsFunc(m.header.Get("Subject"), unicode.IsControl) {
		t.Errorf("subject %q", m.header.Get("Subject"))
	}
	labels := map[string]int{}
	for _, l := range strings.Split(m.body, "\r\n") {
		label, _, found := strings.Cut(l, ": ")
		if found && !strings.HasPrefix(l, "> ") {
			labels[label]++
		}
		if strings.ContainsAny(l, "\r\n") || strings.ContainsFunc(l, turnsDirection) {
			t.Errorf("line %.80q", l)
		}
	}
	own, _, _ := strings.Cut(line(n.Text, 1000), ": ") // the broker's own sentence
	for _, f := range n.facts() {
		if labels[f.label] != 1 && f.label != own {
			t.Errorf("%s stands there %d times", f.label, labels[f.label])
		}
	}
}

// parsed is what a receiver reads of a value that is sent as JSON.
func parsed(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"  plain ": "plain", "a\r\nb": "a  b", "a\u2028b": "a b", "\u202eab\u2066": "ab", "a\x00b\x1b": "a b", "é": "é",
	} {
		if got := line(in, 100); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := line(strings.Repeat("é", 60), 100); got != strings.Repeat("é", 48)+"…" {
		t.Errorf("a long line: %q", got)
	}
}

func TestReasonLines(t *testing.T) {
	n := Notice{Reason: "a\n\n\r\n b \u2028c" + strings.Repeat("\nx", 50)}
	got := n.reasonLines()
	if len(got) != maxReasonLines+1 || got[0] != "a" || got[1] != "b" || got[2] != "c" || got[maxReasonLines] != "…" {
		t.Errorf("lines %q", got)
	}
}

func TestLinks(t *testing.T) {
	for _, c := range []struct {
		kind         Kind
		grant        cred.GrantID
		console      string
		link, typing string
	}{
		{RequestPending, "gr_1", "https://c.example.com/", "https://c.example.com/requests/gr_1", "daypass requests show gr_1"},
		{BreakGlassUsed, "gr_1", "https://c.example.com", "https://c.example.com/grants/gr_1", "daypass grants show gr_1"},
		{RequestPending, "../../x?y#z", "https://c.example.com", "https://c.example.com/requests/xyz", "daypass requests show xyz"},
		{AlarmRaised, "gr_1", "https://c.example.com", "https://c.example.com/grants/gr_1", "daypass grants show gr_1"},
		{PolicyRefused, "", "https://c.example.com", "https://c.example.com", ""},
		{RequestPending, "gr_1", "", "", "daypass requests show gr_1"},
	} {
		n := Notice{Kind: c.kind, Grant: c.grant}
		if n.link(c.console) != c.link || n.command() != c.typing {
			t.Errorf("%+v: %q, %q", c, n.link(c.console), n.command())
		}
	}
}
