package notice

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// slackToken and slackSigning are made here so that they look like nobody's.
func slackToken() cred.Secret { return cred.SecretString("xo" + "xb-" + strings.Repeat("t", 8)) }

func slackSigning() cred.Secret { return cred.SecretString(strings.Repeat("5e", 16)) }

// ada is who the Slack user U0ADA is here.
func ada() cred.Principal {
	return cred.Principal{Provider: "okta", Issuer: "https://example.okta.com", Subject: "00u1", Name: "Ada", Kind: cred.KindPerson}
}

type slackRig struct {
	*endpoint
	sender *Slack
	clock  time.Time
}

// newSlackRig starts a fake of Slack's Web API and of the place for answers to clicks.
func newSlackRig(t testing.TB, change ...func(*SlackOptions)) *slackRig {
	s := &slackRig{endpoint: newEndpoint(t, false), clock: noon}
	s.verify = verifySlackCall
	s.answer = func(w http.ResponseWriter, _ hit) { _, _ = w.Write([]byte(`{"ok":true,"channel":"C0SEC","ts":"1.2"}`)) }
	o := SlackOptions{
		Token: slackToken(), Channel: "C0SEC", SigningSecret: slackSigning(), Users: map[string]cred.Principal{"U0ADA": ada()},
		API: s.URL + "/api", Console: console, Now: func() time.Time { return s.clock },
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if s.sender, err = NewSlack(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.sender.receiver.client.CloseIdleConnections)
	return s
}

// verifySlackCall is what Slack's API demands of a call, and its limits of messages
// (https://docs.slack.dev/reference/block-kit/blocks/section-block).
func verifySlackCall(h hit) error {
	if !strings.HasPrefix(h.header.Get("Content-Type"), "application/json") {
		return errors.New("not JSON")
	}
	if h.path != "/api/chat.postMessage" {
		if h.header.Get("Authorization") != "" {
			return errors.New("the token went to " + h.path)
		}
		return nil
	}
	if h.header.Get("Authorization") != "Bearer "+slackToken().RevealString() {
		return errors.New("not_authed")
	}
	var m map[string]any
	if err := json.Unmarshal(h.body, &m); err != nil {
		return err
	}
	if m["channel"] != "C0SEC" || m["text"] == "" {
		return errors.New("no channel or text")
	}
	blocks, _ := m["blocks"].([]any)
	if len(blocks) == 0 || len(blocks) > 50 {
		return errors.New("invalid_blocks")
	}
	for _, b := range blocks {
		if err := verifyBlock(b.(map[string]any)); err != nil {
			return err
		}
	}
	return nil
}

func verifyBlock(b map[string]any) error {
	texts := func(v any, most int) error {
		text, _ := v.(map[string]any)["text"].(string)
		if text == "" || len(text) > most {
			return errors.New("invalid_blocks: a text of " + text)
		}
		return nil
	}
	switch b["type"] {
	case "section":
		fields, _ := b["fields"].([]any)
		if b["text"] == nil && len(fields) == 0 || len(fields) > 10 {
			return errors.New("invalid_blocks: fields")
		}
		for _, f := range fields {
			if err := texts(f, 2000); err != nil {
				return err
			}
		}
		if b["text"] != nil {
			return texts(b["text"], 3000)
		}
	case "actions":
		for _, e := range b["elements"].([]any) {
			button := e.(map[string]any)
			value, _ := button["value"].(string)
			if err := texts(button["text"], 75); err != nil || len(value) > 2000 || button["action_id"] == "" {
				return errors.New("invalid_blocks: a button")
			}
		}
	default:
		return errors.New("invalid_blocks: type")
	}
	return nil
}

// unescapeMrkdwn returns what a reader of Slack sees of escaped text.
func unescapeMrkdwn(s string) string {
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(s)
}

// actionsOf returns the action IDs of a message's buttons.
func actionsOf(t testing.TB, body []byte) (all []string) {
	var m any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	walk(m, nil, func(path []string, s string) {
		if path[len(path)-1] == "action_id" {
			all = append(all, s)
		}
	})
	return all
}

// A message has buttons that decide only where somebody's click could count, else links alone.
func TestSlackButtons(t *testing.T) {
	link := []string{actionOpen}
	all := []string{actionApprove, actionDeny, actionOpen}
	nobody := func(o *SlackOptions) { o.Users = nil }
	for _, c := range []struct {
		name   string
		change func(*SlackOptions)
		kind   Kind
		want   []string
	}{
		{"a request", func(*SlackOptions) {}, RequestPending, all},
		{"a reminder", func(*SlackOptions) {}, RequestReminder, all},
		{"what is decided", func(*SlackOptions) {}, RequestApproved, link},
		{"break-glass", func(*SlackOptions) {}, BreakGlassUsed, link},
		{"nobody is mapped", nobody, RequestPending, link},
		{"nobody, and no signing secret", func(o *SlackOptions) { nobody(o); o.SigningSecret = cred.Secret{} }, RequestPending, link},
		{"nobody, and no console", func(o *SlackOptions) { nobody(o); o.Console = "" }, RequestPending, nil},
	} {
		s := newSlackRig(t, c.change)
		n := pending()
		n.Kind = c.kind
		if err := s.sender.Send(within(t), n); err != nil {
			t.Fatal(err)
		}
		if got := actionsOf(t, s.last().body); strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: buttons %v, want %v", c.name, got, c.want)
		}
		if c.want == nil && !strings.Contains(string(s.last().body), "daypass requests show "+string(grantID)) {
			t.Errorf("%s: it does not say how to decide", c.name)
		}
	}
}

func TestSlackAnswers(t *testing.T) {
	for _, c := range []struct {
		answer string
		kind   cred.Kind
		public string
		pause  bool
	}{
		{`{"ok":false,"error":"channel_not_found"}`, cred.Unavailable, "Slack answered channel_not_found", false},
		{`{"ok":false,"error":"invalid_auth"}`, cred.Unavailable, "Slack answered invalid_auth", false},
		{`{"ok":false,"error":"invalid_blocks"}`, cred.Invalid, "Slack answered invalid_blocks", false},
		{`{"ok":false,"error":"ratelimited"}`, cred.Unavailable, "Slack answered ratelimited", true},
		{`{"ok":false,"error":"<script>"}`, cred.Unavailable, "Slack answered an error that has no name", false},
		{`{"ok":false}`, cred.Unavailable, "Slack answered an error that has no name", false},
		{`{}`, cred.Unavailable, "Slack answered an error that has no name", false},
		{`<html>`, cred.Unavailable, "Slack's answer can't be read", false},
		{``, cred.Unavailable, "Slack's answer can't be read", false},
	} {
		s := newSlackRig(t)
		s.answer = func(w http.ResponseWriter, _ hit) { _, _ = w.Write([]byte(c.answer)) }
		err := s.sender.Send(within(t), pending())
		if err == nil || cred.KindOf(err) != c.kind || cred.PublicText(err) != c.public {
			t.Errorf("%s: %v", c.answer, err)
		}
		if _, ok := errors.AsType[retryAfter](err); ok != c.pause {
			t.Errorf("%s: asks for a pause: %v", c.answer, ok)
		}
	}
	s := newSlackRig(t)
	s.answer = status(http.StatusTooManyRequests, "Retry-After", "30")
	r, ok := errors.AsType[retryAfter](s.sender.Send(within(t), pending()))
	if !ok || r.RetryAfter() != 30*time.Second {
		t.Errorf("429: %v", r)
	}
}

func TestSlackRefusesOptions(t *testing.T) {
	for name, change := range map[string]func(o *SlackOptions){
		"no token":              func(o *SlackOptions) { o.Token = cred.Secret{} },
		"a channel's name":      func(o *SlackOptions) { o.Channel = "#security" },
		"users without secret":  func(o *SlackOptions) { o.SigningSecret = cred.Secret{} },
		"a user's name":         func(o *SlackOptions) { o.Users = map[string]cred.Principal{"ada": ada()} },
		"an API without TLS":    func(o *SlackOptions) { o.API = "http://slack.example.com/api" },
		"an API that is no URL": func(o *SlackOptions) { o.API = "slack" },
	} {
		o := SlackOptions{Token: slackToken(), Channel: "C0SEC", SigningSecret: slackSigning(), Users: map[string]cred.Principal{"U0ADA": ada()}}
		if _, err := NewSlack(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := NewSlack(o); err == nil || cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Answers to clicks go to Slack's own host for them, whatever the click says.
func TestSlackAnswersOf(t *testing.T) {
	for api, want := range map[string]string{
		slackAPI:                        "https://hooks.slack.com",
		"https://slack-gov.com/api":     "https://hooks.slack-gov.com",
		"http://127.0.0.1:4711/api":     "http://127.0.0.1:4711",
		"https://localhost:4711/api/v1": "https://localhost:4711",
	} {
		if got := answersOf(api).String(); got != want {
			t.Errorf("%s: %s, want %s", api, got, want)
		}
	}
}
