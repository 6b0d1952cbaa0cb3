package copilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
)

const (
	apiVersion = "2025-04-01" // X-GitHub-Api-Version, as microsoft/vscode-copilot-chat sends it
	maxAnswer  = 256 << 10    // bytes
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
	asked := time.Now()
	status, header, body, err := i.get(ctx, seat)
	if err != nil {
		return session{}, err
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return session{}, refusal(status, header, body)
	}
	s, err := i.cfg.read(body, header, asked)
	if err == nil && !s.usable(time.Now()) {
		err = errors.New("copilot: the session ends too soon to be of use")
	}
	if err != nil {
		return session{}, &cred.Error{Kind: cred.Unavailable, Op: "copilot.issue", Reason: "ANSWER_UNREADABLE", Public: publicOdd, Err: err}
	}
	return s, nil
}

func (i *Issuer) get(ctx context.Context, seat cred.Secret) (status int, h http.Header, body []byte, err error) {
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.cfg.URL, nil)
	if err != nil {
		return 0, nil, nil, notIssued("copilot.issue", publicGone, err)
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
	resp, err := i.http.Do(r)
	if err != nil && !connected {
		return 0, nil, nil, notIssued("copilot.issue", publicGone, err)
	}
	if err != nil {
		return 0, nil, nil, unanswered(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("copilot: the answer is too long")
	}
	if err != nil {
		return 0, nil, nil, unanswered(err)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// read reads an answer. Errors quote nothing of it.
func (cfg *Config) read(body []byte, h http.Header, asked time.Time) (session, error) {
	var w wireSession
	if err := json.Unmarshal(body, &w); err != nil {
		return session{}, errors.New("copilot: the answer is no JSON object of a session")
	}
	if !printable(w.Token) {
		return session{}, errors.New("copilot: the answer holds no token, or one that no header can carry")
	}
	endpoint, err := cfg.apiURL(w.Endpoints.API)
	if err != nil {
		return session{}, err
	}
	life := lifeOf(w.ExpiresAt, h, asked)
	refresh := time.Duration(min(max(w.RefreshIn, 0), maxLife.Seconds())) * time.Second
	if refresh == 0 || refresh > life-minLeft {
		refresh = max(life-ahead, life/2)
	}
	return session{token: cred.SecretString(w.Token), endpoint: endpoint, refreshAt: asked.Add(refresh), notAfter: asked.Add(life)}, nil
}

// lifeOf is how long a session lives from now on. expires_at is an instant of GitHub's clock, which
// the Date header tells, so that a clock of ours that is wrong does not matter.
func lifeOf(expiresAt float64, h http.Header, asked time.Time) time.Duration {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		theirs = asked
	}
	seconds := expiresAt - float64(theirs.Unix())
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxLife.Seconds())) * time.Second
}

// printable reports whether a header can carry a text.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// wireRefusal is an answer that is no session.
type wireRefusal struct {
	Message string `json:"message"`
	Details struct {
		NotificationID string `json:"notification_id"`
	} `json:"error_details"`
}

// refusal reads an answer that is no session. GitHub answers 403 for a seat that is not there, for a
// client that it does not want, and for too many requests.
func refusal(status int, h http.Header, body []byte) error {
	var w wireRefusal
	_ = json.Unmarshal(body, &w) // a page in its place leaves the status alone
	id := identifier(w.Details.NotificationID)
	cause := fmt.Errorf("copilot: status %d, notification %q", status, id)
	limited := strings.Contains(strings.ToLower(w.Message), "rate limit") || h.Get("X-Ratelimit-Remaining") == "0"
	switch {
	case status >= 500, status < 400:
		return unanswered(cause)
	case status == http.StatusTooManyRequests, status == http.StatusForbidden && limited:
		e := notIssued("copilot.issue", publicBusy, cause)
		e.RetryAfter = retryAfter(h)
		return e
	case status == http.StatusUnauthorized:
		return withReason("SEAT_SIGNED_OUT", notIssued("copilot.issue", publicSeat, cause))
	case id == "programmatic_token_generation", id == "go_http_client":
		return withReason("CLIENT_UNWANTED", notIssued("copilot.issue", publicUnwanted, cause))
	case id != "":
		return withReason("SEAT_REFUSED", notIssued("copilot.issue", publicNoSeat+" ("+id+")", cause))
	}
	return withReason("SEAT_REFUSED", notIssued("copilot.issue", publicNoSeat, cause))
}

// identifier returns a text if it is one word such as GitHub names its notices with.
func identifier(s string) string {
	odd := func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }
	if len(s) > 64 || strings.ContainsFunc(s, odd) {
		return ""
	}
	return s
}
