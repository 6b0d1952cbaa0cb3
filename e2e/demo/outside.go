package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// upstream is a chat-completions API with a loose tongue: it repeats the key that it was called with,
// a secret that it was trained on, and somebody's address.
type upstream struct {
	*httptest.Server
	key     string // what it demands: the long-lived secret that nobody else should hold
	trained string // a GitHub token's shape
	email   string
}

func newUpstream() *upstream {
	u := &upstream{
		key:     "demo-upstream-key-" + strings.ToLower(rand.Text()),
		trained: "gh" + "p_" + strings.Repeat("Demo", 9),
		email:   "someone@example.com",
	}
	u.Server = httptest.NewServer(http.HandlerFunc(u.answer))
	return u
}

func (u *upstream) answer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+u.key {
		http.Error(w, `{"error":{"message":"Incorrect API key provided"}}`, http.StatusUnauthorized)
		return
	}
	var request struct {
		Stream bool `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, `{"error":{"message":"bad JSON"}}`, http.StatusBadRequest)
		return
	}
	text := fmt.Sprintf("Use %s, or my own key %s. Questions to %s.", u.trained, u.key, u.email)
	if request.Stream {
		streamText(w, text)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-1", "object": "chat.completion", "model": "demo",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}},
	})
}

// streamText sends a text a few characters at a time, so that every secret is split over events.
func streamText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for len(text) > 0 {
		n := min(7, len(text))
		event, _ := json.Marshal(map[string]any{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "demo", "created": time.Now().Unix(),
			"choices": []any{map[string]any{"index": 0, "delta": map[string]any{"content": text[:n]}, "finish_reason": nil}},
		})
		fmt.Fprintf(w, "data: %s\n\n", event)
		_ = flush.Flush()
		text = text[n:]
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}
