package notice

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

func TestTeamsCard(t *testing.T) {
	e := newEndpoint(t, false)
	e.answer = status(http.StatusAccepted)
	s, err := NewTeams(TeamsOptions{URL: cred.SecretString(e.URL + "/workflows/1"), AllowPlain: true, Console: console})
	if err != nil {
		t.Fatal(err)
	}
	defer s.receiver.client.CloseIdleConnections()
	n := pending()
	n.Reason, n.Scopes, n.Groups, n.Text, n.Rule, n.Actor = "two\nlines", nil, nil, "", "", ""
	if err := s.Send(within(t), n); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(e.last().body, &got); err != nil {
		t.Fatal(err)
	}
	type m = map[string]any
	bold := func(text string) m { return m{"type": "TextRun", "text": text, "weight": "Bolder"} }
	run := func(text string) m { return m{"type": "TextRun", "text": text} }
	italic := func(text string) m { return m{"type": "TextRun", "text": text, "italic": true} }
	block := func(runs ...any) any { return m{"type": "RichTextBlock", "inlines": runs} }
	want := m{"type": "message", "attachments": []any{m{
		"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil,
		"content": m{
			"type": "AdaptiveCard", "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "version": "1.4", "msteams": m{"width": "Full"},
			"body": []any{
				block(m{"type": "TextRun", "text": "Approval needed: orders-db", "weight": "Bolder", "size": "Medium"}),
				block(bold("Requested by: "), run("Grace")),
				block(bold("Target: "), run("orders-db")),
				block(bold("Decide before: "), run("2026-11-20 13:00 UTC")),
				block(bold("ID: "), run(string(grantID))),
				block(bold("Reason:")), block(italic("two")), block(italic("lines")),
			},
			"actions": []any{m{"type": "Action.OpenUrl", "title": "Open in daypass", "url": console + "/requests/" + string(grantID)}},
		},
	}}}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTeamsWithoutConsole(t *testing.T) {
	card := (&Teams{}).card(pending())
	if card["actions"] != nil {
		t.Errorf("actions %v", card["actions"])
	}
	body, err := json.Marshal(card)
	if err != nil || !contains(readable(t, body), "daypass requests show "+string(grantID)) {
		t.Errorf("card %s, %v", body, err)
	}
}

func TestTeamsRefusesOptions(t *testing.T) {
	for _, url := range []string{"", "http://teams.example.com/x", "teams.example.com/x", "https://user@teams.example.com"} {
		if _, err := NewTeams(TeamsOptions{URL: cred.SecretString(url), AllowPlain: true}); err == nil || cred.KindOf(err) != cred.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
}
