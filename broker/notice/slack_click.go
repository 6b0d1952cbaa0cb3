package notice

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Review gives a person's verdict on the request with a digest (hex). It is the broker's own, so all
// that it demands of approvers holds for clicks too.
type Review func(ctx context.Context, who cred.Principal, id cred.GrantID, digest string, v cred.Verdict) error

// How clicks are taken.
const (
	maxClick    = 512 << 10               // bytes of a request; Slack sends the message with the click
	maxClickAge = 5 * time.Minute         // of a signature, in either direction
	reviewTime  = 2500 * time.Millisecond // Slack waits 3 s for the answer
	answerTime  = 10 * time.Second        // to put the outcome into Slack
	maxSeen     = 20_000                  // clicks within 2 * maxClickAge
)

// Clicks returns the handler of the app's interactivity URL
// (https://docs.slack.dev/interactivity/handling-user-interaction). It counts a click of a configured
// user as that principal's verdict, and tells in Slack what came of it. What is not signed by Slack,
// or came before, is refused.
func (s *Slack) Clicks(review Review, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "only POST", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxClick))
		switch {
		case err != nil:
			http.Error(w, "the request can't be read, or is too large", http.StatusRequestEntityTooLarge)
			return
		case !s.signed(r.Header, body):
			http.Error(w, "not signed by Slack, or too long ago", http.StatusUnauthorized)
			return
		case !s.seen.first(sha256.Sum256(body), s.o.Now()):
			http.Error(w, "this has been received before", http.StatusConflict)
			return
		}
		c, err := readClick(body)
		if err != nil {
			http.Error(w, "this is no click on a button", http.StatusBadRequest)
			return
		}
		outcome := s.judge(r.Context(), c, review, log)
		acknowledge(w)
		s.tell(context.WithoutCancel(r.Context()), c, outcome, log)
	})
}

// signed verifies a request (https://docs.slack.dev/authentication/verifying-requests-from-slack).
func (s *Slack) signed(h http.Header, body []byte) bool {
	stamp := h.Get("X-Slack-Request-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || s.o.SigningSecret.IsZero() {
		return false
	}
	if age := s.o.Now().Sub(time.Unix(seconds, 0)); age.Abs() > maxClickAge {
		return false
	}
	mac := hmac.New(sha256.New, s.o.SigningSecret.Reveal())
	mac.Write([]byte("v0:" + stamp + ":"))
	mac.Write(body)
	return hmac.Equal([]byte("v0="+hex.EncodeToString(mac.Sum(nil))), []byte(h.Get("X-Slack-Signature")))
}

// seenBodies remembers bodies for as long as their signatures are good. Each click has its own: it
// holds a trigger_id.
type seenBodies struct {
	mu    sync.Mutex
	until map[[sha256.Size]byte]time.Time // guarded by mu
}

// first reports whether a body is new. It is false too where no more can be remembered.
func (s *seenBodies) first(body [sha256.Size]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[[sha256.Size]byte]time.Time{}
	}
	if len(s.until) >= maxSeen {
		for b, until := range s.until {
			if until.Before(now) {
				delete(s.until, b)
			}
		}
	}
	until, known := s.until[body]
	if known && !until.Before(now) || len(s.until) >= maxSeen {
		return false
	}
	s.until[body] = now.Add(2*maxClickAge + time.Second)
	return true
}

// click is what is read of a block_actions payload
// (https://docs.slack.dev/reference/interaction-payloads/block_actions-payload).
type click struct {
	Type string `json:"type"`
	User struct {
		ID   string `json:"id"`
		Team string `json:"team_id"`
	} `json:"user"`
	Team struct {
		ID string `json:"id"`
	} `json:"team"`
	ResponseURL string `json:"response_url"`
	Message     struct {
		Blocks []map[string]any `json:"blocks"`
	} `json:"message"`
	Actions []struct {
		ID    string `json:"action_id"`
		Value string `json:"value"`
	} `json:"actions"`
}

func readClick(body []byte) (click, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return click{}, err
	}
	var c click
	if err := json.Unmarshal([]byte(form.Get("payload")), &c); err != nil {
		return click{}, err
	}
	if c.Type != "block_actions" || len(c.Actions) != 1 {
		return click{}, errors.New("no click on a button")
	}
	return c, nil
}

// from reports whether a click comes from a workspace; "" is any.
func (c click) from(team string) bool {
	own := c.User.Team
	if own == "" {
		own = c.Team.ID
	}
	return team == "" || own == team
}

// outcome is what Slack is told of a click: nothing, something for the clicker alone, or a line under
// the message for everybody.
type outcome struct {
	text     string // mrkdwn; empty: nothing is told
	everyone bool   // else the clicker alone
	over     bool   // the request waits no more: its buttons go
}

// judge counts a click.
func (s *Slack) judge(ctx context.Context, c click, review Review, log *slog.Logger) outcome {
	action := c.Actions[0]
	if action.ID != actionApprove && action.ID != actionDeny {
		return outcome{} // a link's click comes here too
	}
	id, digest, ok := strings.Cut(action.Value, "/")
	if !ok || id == "" || digest == "" {
		return outcome{text: "This button is of no request."}
	}
	who, known := s.o.Users[c.User.ID]
	if !known || !c.from(s.o.Team) {
		log.WarnContext(ctx, "a click in Slack does not count: its user maps to no identity", "slack_user", line(c.User.ID, 40), "grant", line(id, 40))
		return outcome{text: "Your click does not count: your Slack user is mapped to no identity here. " + s.elsewhere(id)}
	}
	verdict := cred.Verdict{Approve: action.ID == actionApprove, Comment: "in Slack"}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	if err := review(ctx, who.Clone(), cred.GrantID(id), digest, verdict); err != nil {
		log.WarnContext(ctx, "a verdict in Slack was refused", "slack_user", c.User.ID, "grant", line(id, 40), "error", err)
		return s.refusal(err, id)
	}
	if verdict.Approve {
		return outcome{text: "Approved by " + mention(c.User.ID), everyone: true}
	}
	return outcome{text: "Refused by " + mention(c.User.ID), everyone: true, over: true}
}

// refusal tells why a verdict did not count: everybody where the request is over, else the clicker.
func (s *Slack) refusal(err error, id string) outcome {
	text := mrkdwn(cred.PublicText(err), 1500)
	e, _ := errors.AsType[*cred.Error](err)
	if e != nil && (e.Kind == cred.Expired || e.Kind == cred.Conflict && e.Reason == "NOT_PENDING") {
		return outcome{text: text, everyone: true, over: true}
	}
	return outcome{text: "Your click does not count: " + text + ". " + s.elsewhere(id)}
}

// elsewhere says where a verdict can be given with a fresh sign-in.
func (s *Slack) elsewhere(id string) string {
	n := Notice{Kind: RequestPending, Grant: cred.GrantID(id)}
	if link := n.link(s.o.Console); link != "" {
		return "Decide there: <" + mrkdwn(link, 1000) + "|open in daypass>"
	}
	return "Decide there: `" + n.command() + "`"
}

// acknowledge completes the answer to Slack, which waits 3 s for it, before more is done.
func acknowledge(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // a writer that can't flush answers a little later
}

// tell puts an outcome into Slack.
func (s *Slack) tell(ctx context.Context, c click, o outcome, log *slog.Logger) {
	if o.text == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := s.answer(ctx, c.ResponseURL, c.update(o)); err != nil {
		log.WarnContext(ctx, "Slack could not be told what came of a click", "error", err)
	}
}

// answer posts to a click's response_url, which is used only where it leads to Slack.
func (s *Slack) answer(ctx context.Context, to string, message map[string]any) error {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != s.answers.Scheme || u.Host != s.answers.Host || u.User != nil {
		return &cred.Error{Kind: cred.Invalid, Op: "notice.slack", Reason: "RESPONSE_URL_FOREIGN", Public: "the click's response_url does not lead to Slack, and is not used"}
	}
	body, err := json.Marshal(message)
	if err != nil {
		return cred.Errorf(cred.Internal, "notice.slack", "", "encode an answer: %w", err)
	}
	a, err := s.receiver.post(ctx, to, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body)
	if err != nil {
		return err
	}
	return s.receiver.accepted(a)
}

// update is the message that tells an outcome: a new one for the clicker, or the old one with a line
// added.
func (c click) update(o outcome) map[string]any {
	if !o.everyone {
		return map[string]any{"response_type": "ephemeral", "replace_original": false, "text": o.text}
	}
	blocks := make([]any, 0, len(c.Message.Blocks)+1)
	for _, b := range c.Message.Blocks {
		if !o.over || b["type"] != "actions" {
			blocks = append(blocks, inert(b))
		}
	}
	blocks = append(blocks, map[string]any{"type": "context", "elements": []any{marked(o.text)}})
	return map[string]any{"replace_original": true, "text": o.text, "blocks": blocks}
}

var mentionOrBracket = regexp.MustCompile(`<@[UW][A-Z0-9]{2,30}>|<`)

// inert returns a part of a message that comes back from Slack so that it can be posted again. Ours
// have no mark-up in brackets but mentions; should Slack have undone an escape, this does it anew.
func inert(v any) any {
	switch v := v.(type) {
	case string:
		return mentionOrBracket.ReplaceAllStringFunc(v, func(found string) string {
			if found == "<" {
				return "&lt;"
			}
			return found
		})
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = inert(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = inert(item)
		}
		return out
	}
	return v
}
