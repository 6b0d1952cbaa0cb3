package oauth_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

const (
	fakeClient = "the client: 1"
	fakeSecret = "s%cret+with:colons and ümlauts/"
)

// server is an OAuth server that has one client and remembers what it was sent. Its refresh tokens
// work once where it rotates; a second use ends all of them, and each access token made from them.
type server struct {
	*httptest.Server

	mu        sync.Mutex                // owns what follows
	live      map[string]bool           // access tokens
	refresh   string                    // the refresh token in force; empty: none
	spent     map[string]bool           // refresh tokens
	rotates   bool                      // hands out a new refresh token each time
	grace     int                       // how often a spent one is forgiven
	edit      func(map[string]any)      // changes an answer before it is sent
	answer    func(http.ResponseWriter) // takes the place of the answer to a token request
	revocable func(http.ResponseWriter) // takes the place of the answer to a revocation
	seen      []url.Values              // bodies, and what else was sent under names with a colon
}

func newServer(t *testing.T) *server {
	s := &server{live: map[string]bool{}, spent: map[string]bool{}, refresh: rand.Text()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.read(r)
	switch {
	case s.answer != nil:
		s.answer(w)
		return
	case !s.knows(sent):
		w.Header().Set("WWW-Authenticate", "Basic")
		fail(w, 401, "invalid_client")
		return
	}
	body := map[string]any{"token_type": "Bearer", "expires_in": 3600}
	if sent.Get("grant_type") == "refresh_token" {
		switch code := s.spend(sent.Get("refresh_token")); {
		case code != "":
			fail(w, 400, code)
			return
		case s.rotates:
			s.spent[s.refresh], s.refresh = true, rand.Text()
			body["refresh_token"] = s.refresh
		}
	}
	if strings.HasSuffix(sent.Get("grant_type"), "token-exchange") {
		body["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
	}
	access := rand.Text()
	s.live[access] = true
	body["access_token"], body["scope"] = access, sent.Get("scope")
	if s.edit != nil {
		s.edit(body)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// spend says what is wrong with a refresh token, if anything.
func (s *server) spend(token string) string {
	switch {
	case token == s.refresh && token != "":
		return ""
	case s.spent[token] && s.grace > 0:
		s.grace--
		return ""
	case s.spent[token]: // theft: the whole family ends
		s.refresh = ""
		clear(s.live)
	}
	return "invalid_grant"
}

// read notes what a request holds.
func (s *server) read(r *http.Request) url.Values {
	raw, _ := io.ReadAll(r.Body)
	sent, _ := url.ParseQuery(string(raw))
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		flat := map[string]string{}
		_ = json.Unmarshal(raw, &flat)
		sent = url.Values{}
		for name, value := range flat {
			sent.Set(name, value)
		}
	}
	if id, secret, ok := r.BasicAuth(); ok {
		sent.Set("basic:id", id)
		sent.Set("basic:secret", secret)
	}
	sent.Set("header:accept", r.Header.Get("Accept"))
	sent.Set("header:anthropic-beta", r.Header.Get("Anthropic-Beta"))
	s.seen = append(s.seen, maps.Clone(sent))
	return sent
}

// knows authenticates the client, as RFC 6749, section 2.3.1, says: form-decoded, by one way alone.
func (s *server) knows(sent url.Values) bool {
	basic := sent.Has("basic:id")
	if basic && sent.Has("client_secret") {
		return false
	}
	if basic {
		id, err1 := url.QueryUnescape(sent.Get("basic:id"))
		secret, err2 := url.QueryUnescape(sent.Get("basic:secret"))
		return err1 == nil && err2 == nil && id == fakeClient && secret == fakeSecret
	}
	if sent.Has("client_secret") {
		return sent.Get("client_id") == fakeClient && sent.Get("client_secret") == fakeSecret
	}
	return true // what else there is, the tests look at themselves
}

// revoke is RFC 7009, section 2.2: 200 for what it does not know, too.
func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := s.read(r)
	switch {
	case s.revocable != nil:
		s.revocable(w)
	case !s.knows(sent):
		fail(w, 401, "invalid_client")
	default:
		delete(s.live, sent.Get("token"))
	}
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "because"})
}

func (s *server) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *server) last() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func (s *server) works(_ context.Context, c cred.Credential) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live[c.Fields["token"].RevealString()] {
		return errors.New("401")
	}
	return nil
}

func (s *server) alive(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live), nil
}

// memory is a Keeper that can fail, and tells in which order it was used.
type memory struct {
	mu    sync.Mutex // owns what follows
	kept  string
	fails error
	saved []string
}

func (m *memory) Load(context.Context) (cred.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cred.SecretString(m.kept), nil
}

func (m *memory) Save(_ context.Context, s cred.Secret) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails == nil {
		m.kept = s.RevealString()
		m.saved = append(m.saved, m.kept)
	}
	return m.fails
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails = err
}

func (m *memory) holds() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

func sorted(text string) []string {
	words := strings.Fields(text)
	slices.Sort(words)
	return words
}
