package notice

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// TeamsOptions say where a workflow of Microsoft Teams takes notices.
type TeamsOptions struct {
	// URL is the address of a workflow that begins with "When a Teams webhook request is received". It
	// holds the signature that lets everybody post.
	URL        cred.Secret
	AllowPlain bool             // permits http on a loopback address
	Console    string           // base URL of the console, for links; may be empty
	Now        func() time.Time // for Retry-After; nil: time.Now
}

// Teams posts notices as Adaptive Cards to a workflow of Microsoft Teams
// (https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using).
// The cards link to the console; nobody decides in them, for Teams does not say who clicked.
type Teams struct {
	receiver *receiver
	url      cred.Secret
	console  string
}

// NewTeams returns a Sender for a Teams workflow. The error is Invalid for a URL that can't be used.
func NewTeams(o TeamsOptions) (*Teams, error) {
	const op = "notice.teams"
	if err := checkURL(op, o.URL.RevealString(), o.AllowPlain); err != nil {
		return nil, err
	}
	r, err := newReceiver(op, "", o.Now)
	if err != nil {
		return nil, err
	}
	return &Teams{r, o.URL, o.Console}, nil
}

// Send implements Sender. A workflow answers 202 before it posts.
func (t *Teams) Send(ctx context.Context, n Notice) error {
	body, err := json.Marshal(map[string]any{
		"type": "message",
		"attachments": []any{map[string]any{
			"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": t.card(n),
		}},
	})
	if err != nil {
		return cred.Errorf(cred.Invalid, "notice.teams", "the notice can't be encoded", "%w", err)
	}
	a, err := t.receiver.post(ctx, t.url.RevealString(), http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		return err
	}
	return t.receiver.accepted(a)
}

// card lays a notice out as an Adaptive Card 1.4. All text stands in TextRuns, which know no Markdown
// (https://learn.microsoft.com/adaptive-cards/schema-explorer/text-run); TextBlocks and Facts do.
func (t *Teams) card(n Notice) map[string]any {
	body := []any{rich(run(n.title(), map[string]any{"weight": "Bolder", "size": "Medium"}))}
	if text := line(n.Text, 1000); text != "" {
		body = append(body, rich(run(text, nil)))
	}
	for _, f := range n.facts() {
		body = append(body, rich(run(f.label+": ", map[string]any{"weight": "Bolder"}), run(f.value, nil)))
	}
	for i, l := range n.reasonLines() {
		if i == 0 {
			body = append(body, rich(run("Reason:", map[string]any{"weight": "Bolder"})))
		}
		body = append(body, rich(run(l, map[string]any{"italic": true})))
	}
	card := map[string]any{
		"type": "AdaptiveCard", "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "version": "1.4",
		"msteams": map[string]any{"width": "Full"},
	}
	if link := n.link(t.console); link != "" {
		card["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": "Open in daypass", "url": link}}
	} else if c := n.command(); c != "" {
		body = append(body, rich(run(c, map[string]any{"fontType": "Monospace"})))
	}
	card["body"] = body
	return card
}

func rich(inlines ...any) any {
	return map[string]any{"type": "RichTextBlock", "inlines": inlines}
}

// run is a TextRun. What it still reads are dates, {{DATE(…)}}
// (https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features): a character without
// width takes their mark apart.
func run(text string, style map[string]any) any {
	for strings.Contains(text, "{{") { // twice for three in a row
		text = strings.ReplaceAll(text, "{{", "{\u200b{")
	}
	r := map[string]any{"type": "TextRun", "text": text}
	for k, v := range style {
		r[k] = v
	}
	return r
}
