package copilot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	apiVersion = "2025-04-01" // X-GitHub-Api-Version, as microsoft/vscode-copilot-chat sends it
	maxLife    = 24 * time.Hour
	ahead      = 5 * time.Minute // how long before its end a session without refresh_in is refreshed
)

// wireSession is GitHub's answer, as far as it matters (microsoft/vscode-copilot-chat, March 2026).
// Other members come and go.
type wireSession struct {
	Token     string  `json:"token"`
	ExpiresAt float64 `json:"expires_at"` // Unix seconds
	RefreshIn float64 `json:"refresh_in"` // seconds
	Endpoints struct {
		API string `json:"api"`
	} `json:"endpoints"`
}

// fetch asks for a session once.
func (i *Issuer) fetch(ctx context.Context, seat cred.Secret) (session, error) {
	a, err := i.get(ctx, seat)
	if err != nil {
		return session{}, err
	}
	if a.Status != http.StatusOK && a.Status != http.StatusCreated {
		return session{}, refusal(a)
	}
	s, err := i.cfg.read(a)
	if err == nil && !s.usable(time.Now()) {
		err = errors.New("copilot: the session ends too soon to be of use")
	}
	if err != nil {
		return session{}, &cred.Error{Kind: cred.Unavailable, Op: "copilot.issue", Reason: "ANSWER_UNREADABLE", Public: publicOdd, Err: err}
	}
	return s, nil
}

func (i *Issuer) get(ctx context.Context, seat cred.Secret) (tokenapi.Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.cfg.URL, nil)
	if err != nil {
		return tokenapi.Answer{}, issuer.NotIssued("copilot.issue", "", publicGone, err)
	}
	r.Header.Set("Authorization", "token "+seat.RevealString())
	r.Header.Set("Accept", "application/json")
	r.Header.Set("X-GitHub-Api-Version", apiVersion)
	r.Header.Set("User-Agent", i.cfg.UserAgent)
	for name, value := range map[string]string{"Editor-Version": i.cfg.EditorVersion, "Editor-Plugin-Version": i.cfg.EditorPluginVersion} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	a, sent, err := i.http.Do(r)
	switch {
	case err != nil && !sent:
		return a, issuer.NotIssued("copilot.issue", "", publicGone, err)
	case err != nil:
		return a, unanswered(err)
	}
	return a, nil
}

// read reads an answer. Errors quote nothing of it.
func (cfg *Config) read(a tokenapi.Answer) (session, error) {
	var w wireSession
	if err := json.Unmarshal(a.Body, &w); err != nil {
		return session{}, errors.New("copilot: the answer is no JSON object of a session")
	}
	if !tokenapi.Printable(w.Token) {
		return session{}, errors.New("copilot: the answer holds no token, or one that no header can carry")
	}
	endpoint, err := cfg.apiURL(w.Endpoints.API)
	if err != nil {
		return session{}, err
	}
	life := lifeOf(w.ExpiresAt, a)
	refresh := time.Duration(min(max(w.RefreshIn, 0), maxLife.Seconds())) * time.Second
	if refresh == 0 || refresh > life-minLeft {
		refresh = max(life-ahead, life/2)
	}
	return session{token: cred.SecretString(w.Token), endpoint: endpoint, refreshAt: a.Asked.Add(refresh), notAfter: a.Asked.Add(life)}, nil
}

// lifeOf is how long a session lives from now on. expires_at is an instant of GitHub's clock, so that a
// clock of ours that is wrong does not matter.
func lifeOf(expiresAt float64, a tokenapi.Answer) time.Duration {
	seconds := expiresAt - float64(a.Clock().Unix())
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxLife.Seconds())) * time.Second
}

// wireRefusal is an answer that is no session.
type wireRefusal struct {
	Message string `json:"message"`
	Details struct {
		NotificationID string `json:"notification_id"`
	} `json:"error_details"`
}

// refusal reads an answer that is no session. GitHub answers 403 for a seat that is not there, for a
// client that it does not want, and for too many requests. What it refuses it is not asked for again before
// the RetryAfter of the error.
func refusal(a tokenapi.Answer) error {
	var w wireRefusal
	_ = json.Unmarshal(a.Body, &w) // a page in its place leaves the status alone
	id := identifier(w.Details.NotificationID)
	cause := fmt.Errorf("copilot: status %d, notification %q", a.Status, id)
	if a.Status >= 500 || a.Status < 400 {
		return unanswered(cause)
	}
	reason, public := "SEAT_REFUSED", publicNoSeat
	limited := strings.Contains(strings.ToLower(w.Message), "rate limit") || a.Header.Get("X-Ratelimit-Remaining") == "0"
	switch {
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusForbidden && limited:
		reason, public = "", publicBusy
	case a.Status == http.StatusUnauthorized:
		reason, public = "SEAT_SIGNED_OUT", publicSeat
	case id == "programmatic_token_generation", id == "go_http_client":
		reason, public = "CLIENT_UNWANTED", publicUnwanted
	case id != "":
		public += " (" + id + ")"
	}
	e := issuer.NotIssued("copilot.issue", reason, public, cause)
	e.RetryAfter = a.LimitedFor("X-Ratelimit-Reset")
	return e
}

// identifier returns a text if it is one word such as GitHub names its notices with.
func identifier(s string) string {
	odd := func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }
	if len(s) > 64 || strings.ContainsFunc(s, odd) {
		return ""
	}
	return s
}
