package notice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// SlackOptions say how a Slack app posts, and whose clicks it takes.
type SlackOptions struct {
	Token   cred.Secret // the app's bot token, with the scope chat:write
	Channel string      // the conversation's ID
	// SigningSecret verifies what Slack sends when somebody clicks. Zero: no buttons but links.
	SigningSecret cred.Secret
	// Users are the people whose clicks count, by their Slack user ID. Empty: no buttons but links.
	Users map[string]cred.Principal
	// Team, where it is set, is the workspace (T…) that a click must come from.
	Team string
	// API is the base of the Web API; empty: https://slack.com/api. Answers go to the same host, or to
	// "hooks." before it. Only a test has http, on a loopback address.
	API     string
	Console string           // base URL of the console, for links; may be empty
	Now     func() time.Time // for the age of signatures; nil: time.Now
}

// slackAPI is where Slack's Web API is: https://docs.slack.dev/apis/web-api/
const slackAPI = "https://slack.com/api"

// Slack posts notices into a Slack channel with chat.postMessage
// (https://docs.slack.dev/reference/methods/chat.postMessage), and takes clicks, see Clicks.
type Slack struct {
	o        SlackOptions
	receiver *receiver
	answers  *url.URL // scheme and host where the answer to a click may go
	seen     seenBodies
}

var (
	slackConversation = regexp.MustCompile(`^(?:[CGD][A-Z0-9]{2,30})$`)
	slackUser         = regexp.MustCompile(`^(?:[UW][A-Z0-9]{2,30})$`)
)

// NewSlack returns a Sender for a Slack channel. The error is Invalid for options that can't be used.
func NewSlack(o SlackOptions) (*Slack, error) {
	const op = "notice.slack"
	invalid := func(rule string) error {
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "CHANNEL_INVALID", Public: rule}
	}
	if o.API == "" {
		o.API = slackAPI
	}
	if err := checkURL(op, o.API, true); err != nil {
		return nil, err
	}
	switch {
	case o.Token.IsZero():
		return nil, invalid("a Slack channel needs the token of its app")
	case !slackConversation.MatchString(o.Channel):
		return nil, invalid("a Slack channel is named by its ID, such as C0123456789")
	case len(o.Users) > 0 && o.SigningSecret.IsZero():
		return nil, invalid("the clicks of Slack users can't be verified without the app's signing secret")
	}
	for id := range o.Users {
		if !slackUser.MatchString(id) {
			return nil, invalid("a Slack user is named by an ID such as U0123456789")
		}
	}
	r, err := newReceiver(op, "", o.Now)
	if err != nil {
		return nil, err
	}
	o.Now = r.now
	return &Slack{o: o, receiver: r, answers: answersOf(o.API)}, nil
}

// answersOf returns where response_url may lead: hooks.slack.com for slack.com. A test's API has both
// on one host.
func answersOf(api string) *url.URL {
	u, err := url.Parse(api)
	if err != nil {
		return &url.URL{} // NewSlack has parsed it
	}
	if isLoopback(u.Hostname()) {
		return &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	return &url.URL{Scheme: "https", Host: "hooks." + u.Host}
}

// slackMessage is what chat.postMessage takes.
type slackMessage struct {
	Channel     string        `json:"channel"`
	Text        string        `json:"text"` // what notifications show
	Blocks      []any         `json:"blocks"`
	UnfurlLinks bool          `json:"unfurl_links"`
	UnfurlMedia bool          `json:"unfurl_media"`
	Metadata    slackMetadata `json:"metadata"`
}

// slackMetadata carries the notice's ID, for programs that read the channel.
type slackMetadata struct {
	Type    string            `json:"event_type"`
	Payload map[string]string `json:"event_payload"`
}

// Send implements Sender.
func (s *Slack) Send(ctx context.Context, n Notice) error {
	body, err := json.Marshal(slackMessage{
		Channel: s.o.Channel, Text: mrkdwn(n.title(), 1000), Blocks: s.blocks(n),
		Metadata: slackMetadata{"daypass_notice", map[string]string{"id": n.ID, "kind": string(n.Kind)}},
	})
	if err != nil {
		return cred.Errorf(cred.Invalid, "notice.slack", "the notice can't be encoded", "%w", err)
	}
	a, err := s.receiver.post(ctx, s.o.API+"/chat.postMessage", http.Header{
		"Content-Type":  {"application/json; charset=utf-8"},
		"Authorization": {"Bearer " + s.o.Token.RevealString()},
	}, body)
	if err != nil {
		return err
	}
	if err := s.receiver.accepted(a); err != nil {
		return err
	}
	return slackOK(a.body)
}

var slackErrorCode = regexp.MustCompile(`^(?:[a-z_]{1,64})$`)

// slackOK reads the answer, whose status is 200 also where it is an error
// (https://docs.slack.dev/apis/web-api/#evaluating-responses).
func slackOK(body []byte) error {
	var a struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "notice.slack", Reason: "RECEIVER_REFUSED", Public: "Slack's answer can't be read", Err: err}
	}
	if a.OK {
		return nil
	}
	if !slackErrorCode.MatchString(a.Error) {
		a.Error = "an error that has no name"
	}
	e := &cred.Error{Kind: cred.Unavailable, Op: "notice.slack", Reason: "RECEIVER_REFUSED", Public: "Slack answered " + a.Error}
	switch a.Error {
	case "ratelimited", "rate_limited":
		return &busy{e, throttled}
	case "invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long", "no_text":
		e.Kind = cred.Invalid // the same message can't do better
	}
	return e
}

// maxValue bounds a button's value, in bytes; Slack's bound is 2000. No ID and digest are as long.
const maxValue = 256

// The actions of buttons.
const (
	actionApprove = "daypass_approve"
	actionDeny    = "daypass_deny"
	actionOpen    = "daypass_open"
)

// blocks lays a notice out (https://docs.slack.dev/reference/block-kit/blocks). What somebody wrote
// stands in text objects of its own, escaped, so that its marks reach no further than itself.
func (s *Slack) blocks(n Notice) []any {
	all := []any{section("*" + mrkdwn(n.title(), 1000) + "*")}
	if text := line(n.Text, 1000); text != "" {
		all = append(all, section(mrkdwn(text, 2000)))
	}
	var fields []any
	for _, f := range n.facts() {
		fields = append(fields, marked("*"+f.label+"*\n"+mrkdwn(f.value, 1500)))
	}
	if len(fields) > 0 {
		all = append(all, map[string]any{"type": "section", "fields": fields})
	}
	if quoted := n.reasonLines(); len(quoted) > 0 {
		for i, l := range quoted {
			quoted[i] = "> " + mrkdwn(l, 2400/len(quoted))
		}
		all = append(all, section("*Reason*\n"+strings.Join(quoted, "\n")))
	}
	if buttons := s.buttons(n); len(buttons) > 0 {
		return append(all, map[string]any{"type": "actions", "elements": buttons})
	}
	if c := n.command(); c != "" {
		all = append(all, section("`"+c+"`"))
	}
	return all
}

func section(text string) any { return map[string]any{"type": "section", "text": marked(text)} }

// marked is a text object; verbatim keeps Slack from making links and mentions of plain words.
func marked(text string) any {
	return map[string]any{"type": "mrkdwn", "text": text, "verbatim": true}
}

func (s *Slack) buttons(n Notice) []any {
	var all []any
	value := pathSegment(string(n.Grant)) + "/" + pathSegment(n.Digest)
	if s.takesClicks() && n.asksForReview() && len(value) <= maxValue {
		all = append(all, button("Approve", actionApprove, value, "primary"), button("Refuse", actionDeny, value, "danger"))
	}
	if link := n.link(s.o.Console); link != "" {
		all = append(all, map[string]any{"type": "button", "text": plain("Open in daypass"), "action_id": actionOpen, "url": link})
	}
	return all
}

// takesClicks reports whether anybody's click could count.
func (s *Slack) takesClicks() bool { return len(s.o.Users) > 0 && !s.o.SigningSecret.IsZero() }

func button(text, action, value, style string) any {
	return map[string]any{
		"type": "button", "text": plain(text), "action_id": action, "value": value, "style": style,
		"confirm": map[string]any{
			"title": plain(text + "?"), "confirm": plain(text), "deny": plain("Cancel"),
			"text": plain("Your verdict is recorded under your name."),
		},
	}
}

// plain is a text object for words of our own.
func plain(text string) any { return map[string]any{"type": "plain_text", "text": text} }

// mrkdwn escapes text for Slack's mark-up, in at most so many bytes. Without the three characters no
// mention, link or command such as <!channel> can be written
// (https://docs.slack.dev/messaging/formatting-message-text/#escaping).
func mrkdwn(text string, most int) string {
	var b strings.Builder
	for _, r := range text {
		piece := string(r)
		switch r {
		case '&':
			piece = "&amp;"
		case '<':
			piece = "&lt;"
		case '>':
			piece = "&gt;"
		}
		if b.Len()+len(piece) > most-len("…") {
			return b.String() + "…"
		}
		b.WriteString(piece)
	}
	return b.String()
}

// mention names a Slack user. The ID is one of the configuration.
func mention(user string) string { return fmt.Sprintf("<@%s>", user) }
