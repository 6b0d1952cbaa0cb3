package notice

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// verdict is a call of Review.
type verdict struct {
	who    cred.Principal
	id     cred.GrantID
	digest string
	v      cred.Verdict
}

// desk is the handler of clicks with what it calls.
type desk struct {
	*slackRig
	t       testing.TB
	handler http.Handler
	log     *output

	mu       sync.Mutex
	verdicts []verdict // guarded by mu
	refuses  error     // what Review returns; guarded by mu
}

func newDesk(t testing.TB, change ...func(*SlackOptions)) *desk {
	d := &desk{slackRig: newSlackRig(t, change...), t: t, log: &output{}}
	d.answer = nil
	d.handler = d.sender.Clicks(func(ctx context.Context, who cred.Principal, id cred.GrantID, digest string, v cred.Verdict) error {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("Review has no deadline, and Slack waits for 3 seconds")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.verdicts = append(d.verdicts, verdict{who, id, digest, v})
		return d.refuses
	}, slog.New(slog.NewTextHandler(d.log, nil)))
	return d
}

// clickOf is what Slack sends when a user clicks a button of a message that was posted.
func (d *desk) clickOf(user, action, trigger string) url.Values {
	d.t.Helper()
	message := map[string]any{"text": "t", "blocks": d.sender.blocks(pending())}
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "trigger_id": trigger, "user": map[string]any{"id": user, "team_id": "T0OURS"},
		"team": map[string]any{"id": "T0OURS"}, "response_url": d.URL + "/actions/1", "message": message,
		"actions": []any{map[string]any{"action_id": action, "value": string(grantID) + "/" + pending().Digest}},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return url.Values{"payload": {string(payload)}}
}

// signSlack signs as Slack does
// (https://docs.slack.dev/authentication/verifying-requests-from-slack).
func signSlack(secret cred.Secret, at time.Time, body string) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret.Reveal())
	_, _ = fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
	h := http.Header{}
	h.Set("X-Slack-Request-Timestamp", stamp)
	h.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return h
}

func (d *desk) post(body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/notices/slack/sec", strings.NewReader(body))
	r.Header = header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w
}

func (d *desk) click(form url.Values) *httptest.ResponseRecorder {
	return d.post(form.Encode(), signSlack(slackSigning(), d.clock, form.Encode()))
}

// told returns what was posted to response_url last, and its text.
func (d *desk) told() (map[string]any, string) {
	d.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(d.last().body, &m); err != nil {
		d.t.Fatal(err)
	}
	text, _ := m["text"].(string)
	return m, text
}

func TestClickCounts(t *testing.T) {
	for action, approve := range map[string]bool{actionApprove: true, actionDeny: false} {
		d := newDesk(t)
		if w := d.click(d.clickOf("U0ADA", action, "1")); w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("%s: status %d", action, w.Code)
		}
		want := []verdict{{ada(), grantID, pending().Digest, cred.Verdict{Approve: approve, Comment: "in Slack"}}}
		if !reflect.DeepEqual(d.verdicts, want) {
			t.Errorf("%s: verdicts %+v", action, d.verdicts)
		}
		m, text := d.told()
		if d.last().path != "/actions/1" || m["replace_original"] != true || !strings.HasSuffix(text, "by <@U0ADA>") {
			t.Errorf("%s: told %v", action, m)
		}
		// An approval may not be the last that is needed, so others can still click; a refusal ends it.
		if got := len(actionsOf(t, d.last().body)); (got > 0) != approve {
			t.Errorf("%s: %d buttons are left", action, got)
		}
		if !strings.Contains(string(d.last().body), "fix order 4711") {
			t.Errorf("%s: the message lost its text", action)
		}
	}
}

// The vector of Slack's own documentation verifies.
func TestSlackVector(t *testing.T) {
	secret := cred.SecretString("8f742231b10e8888" + "abcd99yyyzzz85a5")
	s := newSlackRig(t, func(o *SlackOptions) { o.SigningSecret = secret })
	s.clock = time.Unix(1531420618, 0)
	body := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner" +
		"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN" +
		"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	h := http.Header{}
	h.Set("X-Slack-Request-Timestamp", "1531420618")
	h.Set("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503")
	if !s.sender.signed(h, []byte(body)) {
		t.Error("the vector does not verify")
	}
	if s.sender.signed(h, []byte(body+"&")) {
		t.Error("another body verifies")
	}
}

func TestClicksMustBeSigned(t *testing.T) {
	d := newDesk(t)
	body := d.clickOf("U0ADA", actionApprove, "1").Encode()
	for name, header := range map[string]func() http.Header{
		"no headers":      func() http.Header { return http.Header{} },
		"another secret":  func() http.Header { return signSlack(slackToken(), d.clock, body) },
		"an empty secret": func() http.Header { return signSlack(cred.Secret{}, d.clock, body) },
		"another body":    func() http.Header { return signSlack(slackSigning(), d.clock, body+"&") },
		"too old":         func() http.Header { return signSlack(slackSigning(), d.clock.Add(-maxClickAge-time.Second), body) },
		"from the future": func() http.Header { return signSlack(slackSigning(), d.clock.Add(maxClickAge+time.Second), body) },
		"an old signature": func() http.Header {
			return withStamp(signSlack(slackSigning(), d.clock.Add(-time.Hour), body), d.clock)
		},
		"no timestamp": func() http.Header {
			h := signSlack(slackSigning(), d.clock, body)
			h.Del("X-Slack-Request-Timestamp")
			return h
		},
		"another version": func() http.Header {
			h := signSlack(slackSigning(), d.clock, body)
			h.Set("X-Slack-Signature", "v1"+strings.TrimPrefix(h.Get("X-Slack-Signature"), "v0"))
			return h
		},
	} {
		if w := d.post(body, header()); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
	if len(d.verdicts) != 0 || len(d.taken()) != 0 {
		t.Errorf("verdicts %v, %d answers", d.verdicts, len(d.taken()))
	}
	for _, age := range []time.Duration{-maxClickAge, maxClickAge} {
		form := d.clickOf("U0ADA", actionApprove, age.String()).Encode()
		if w := d.post(form, signSlack(slackSigning(), d.clock.Add(age), form)); w.Code != http.StatusOK {
			t.Errorf("age %v: status %d", age, w.Code)
		}
	}
}

func withStamp(h http.Header, at time.Time) http.Header {
	h.Set("X-Slack-Request-Timestamp", strconv.FormatInt(at.Unix(), 10))
	return h
}

// Without a signing secret nothing verifies, not even what is signed with the empty key.
func TestNoSigningSecret(t *testing.T) {
	d := newDesk(t, func(o *SlackOptions) { o.SigningSecret, o.Users = cred.Secret{}, nil })
	body := d.clickOf("U0ADA", actionApprove, "1").Encode()
	if w := d.post(body, signSlack(cred.Secret{}, d.clock, body)); w.Code != http.StatusUnauthorized {
		t.Errorf("status %d", w.Code)
	}
}

// A request that was taken is not taken again, with the same signature or a newer one.
func TestClicksCountOnce(t *testing.T) {
	d := newDesk(t)
	body := d.clickOf("U0ADA", actionApprove, "1").Encode()
	header := func() http.Header { return signSlack(slackSigning(), d.clock, body) }
	if w := d.post(body, header()); w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	for range 3 {
		if w := d.post(body, header()); w.Code != http.StatusConflict {
			t.Errorf("again: status %d", w.Code)
		}
		d.clock = d.clock.Add(3 * time.Minute)
	}
	if len(d.verdicts) != 1 {
		t.Errorf("%d verdicts", len(d.verdicts))
	}
	if w := d.click(d.clickOf("U0ADA", actionApprove, "2")); w.Code != http.StatusOK || len(d.verdicts) != 2 {
		t.Errorf("another click: status %d, %d verdicts", w.Code, len(d.verdicts))
	}
}

// The memory of clicks is bounded, and full means refused.
func TestSeenIsBounded(t *testing.T) {
	var s seenBodies
	for i := range maxSeen {
		if !s.first(sha256.Sum256([]byte(strconv.Itoa(i))), noon) {
			t.Fatalf("the body %d is refused", i)
		}
	}
	more := sha256.Sum256([]byte("more"))
	if s.first(more, noon.Add(maxClickAge)) || len(s.until) != maxSeen {
		t.Errorf("one more is taken; %d are remembered", len(s.until))
	}
	if !s.first(more, noon.Add(3*maxClickAge)) || len(s.until) != 1 {
		t.Errorf("after their time %d are remembered", len(s.until))
	}
}

// A click counts for a mapped user alone; to all others it says where to go.
func TestClicksMustBeMapped(t *testing.T) {
	ours := func(o *SlackOptions) { o.Team = "T0OURS" }
	theirs := func(o *SlackOptions) { o.Team = "T0THEIRS" }
	for _, c := range []struct {
		name, user string
		change     func(*SlackOptions)
		counts     bool
	}{
		{"mapped", "U0ADA", ours, true},
		{"not mapped", "U0EVE", ours, false},
		{"nobody", "", ours, false},
		{"of another workspace", "U0ADA", theirs, false},
	} {
		d := newDesk(t, c.change)
		if w := d.click(d.clickOf(c.user, actionApprove, "1")); w.Code != http.StatusOK {
			t.Errorf("%s: status %d", c.name, w.Code)
		}
		if got := len(d.verdicts) == 1; got != c.counts {
			t.Errorf("%s: verdicts %v", c.name, d.verdicts)
		}
		m, text := d.told()
		if !c.counts && (m["response_type"] != "ephemeral" || m["replace_original"] != false || m["blocks"] != nil ||
			!strings.Contains(text, "does not count") || !strings.Contains(text, "<"+console+"/requests/"+string(grantID)+"|")) {
			t.Errorf("%s: told %v", c.name, m)
		}
	}
}

// Why a verdict was refused is told, in the error's public words; where the request is over, the
// buttons go.
func TestRefusedVerdicts(t *testing.T) {
	refused := func(kind cred.Kind, reason string) error {
		return &cred.Error{Kind: kind, Op: "review", Reason: reason, Public: "public words <!channel>", Err: errDisk}
	}
	for _, c := range []struct {
		name string
		err  error
		over bool
		want string
	}{
		{"a sign-in that is too old", refused(cred.Denied, "SIGN_IN_TOO_OLD"), false, "public words &lt;!channel&gt;"},
		{"their own request", refused(cred.Denied, "OWN_REQUEST"), false, "public words"},
		{"a second verdict", refused(cred.Conflict, "ALREADY_REVIEWED"), false, "public words"},
		{"another digest", refused(cred.Conflict, "DIGEST_MISMATCH"), false, "public words"},
		{"a request that is decided", refused(cred.Conflict, "NOT_PENDING"), true, "public words"},
		{"a request that has expired", refused(cred.Expired, "REQUEST_EXPIRED"), true, "public words"},
		{"the store is down", refused(cred.Unavailable, ""), false, "public words"},
		{"a fault", errDisk.Err, false, "internal fault"},
	} {
		d := newDesk(t)
		d.refuses = c.err
		if w := d.click(d.clickOf("U0ADA", actionApprove, "1")); w.Code != http.StatusOK {
			t.Errorf("%s: status %d", c.name, w.Code)
		}
		m, text := d.told()
		if !strings.Contains(text, c.want) || strings.Contains(text, "fake disk") {
			t.Errorf("%s: told %q", c.name, text)
		}
		if over := m["replace_original"] == true && len(actionsOf(t, d.last().body)) == 0; over != c.over {
			t.Errorf("%s: told %v", c.name, m)
		}
		if linked := strings.Contains(text, console); linked == c.over {
			t.Errorf("%s: %q", c.name, text)
		}
		if !strings.Contains(d.log.String(), "refused") {
			t.Errorf("%s: the log has %q", c.name, d.log)
		}
	}
}

// An answer goes to Slack, or nowhere.
func TestForeignResponseURL(t *testing.T) {
	foreign := newEndpoint(t, false)
	for _, to := range []string{
		foreign.URL + "/actions/1", "http://169.254.169.254/latest", "", "/actions/1", "file:///etc/passwd", "%", "https://hooks.slack.com.example.com/x",
	} {
		d := newDesk(t)
		form := d.clickOf("U0ADA", actionApprove, "1")
		replaced := strings.ReplaceAll(form.Get("payload"), d.URL+"/actions/1", to)
		if w := d.click(url.Values{"payload": {replaced}}); w.Code != http.StatusOK {
			t.Errorf("%q: status %d", to, w.Code)
		}
		if len(d.verdicts) != 1 || len(d.taken())+len(foreign.taken()) != 0 {
			t.Errorf("%q: verdicts %v, %d answers", to, d.verdicts, len(d.taken())+len(foreign.taken()))
		}
		if !strings.Contains(d.log.String(), "does not lead to Slack") {
			t.Errorf("%q: the log has %q", to, d.log)
		}
	}
	// Those of Slack itself pass, and nobody's user information.
	s, err := NewSlack(SlackOptions{Token: slackToken(), Channel: "C0SEC"})
	if err != nil {
		t.Fatal(err)
	}
	s.receiver.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
	})
	for to, want := range map[string]bool{
		"https://hooks.slack.com/actions/T1/2/3": true, "http://hooks.slack.com/actions/T1/2/3": false, "https://slack.com/api": false,
		"https://hooks.slack.com:8443/x": false, "https://user@hooks.slack.com/x": false, "https://evil.example.com/hooks.slack.com": false,
	} {
		if err := s.answer(within(t), to, map[string]any{}); (err == nil) != want {
			t.Errorf("%s: %v", to, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What Slack can't be told is logged; the verdict stands. Both forms of the fault.
func TestAnswerIsLost(t *testing.T) {
	for _, f := range []fault{notDone, doneLost} {
		d := newDesk(t)
		d.plan(f)
		if w := d.click(d.clickOf("U0ADA", actionApprove, "1")); w.Code != http.StatusOK || len(d.verdicts) != 1 {
			t.Errorf("status %d, verdicts %v", w.Code, d.verdicts)
		}
		if !strings.Contains(d.log.String(), "could not be told") {
			t.Errorf("log %q", d.log)
		}
	}
}

func TestOddClicks(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct {
		body string
		code int
	}{
		"nothing":             {"", 400},
		"no form":             {"%", 400},
		"no JSON":             {"payload=x", 400},
		"another kind":        {`payload={"type":"view_submission","actions":[{}]}`, 400},
		"no action":           {`payload={"type":"block_actions"}`, 400},
		"two actions":         {`payload={"type":"block_actions","actions":[{},{}]}`, 400},
		"a link's click":      {`payload={"type":"block_actions","actions":[{"action_id":"daypass_open"}]}`, 200},
		"an unknown button":   {`payload={"type":"block_actions","user":{"id":"U0ADA"},"actions":[{"action_id":"other","value":"a/b"}]}`, 200},
		"a button of nothing": {`payload={"type":"block_actions","user":{"id":"U0ADA"},"actions":[{"action_id":"daypass_deny","value":"gr_1"}]}`, 200},
		"too much":            {"payload=" + strings.Repeat("x", maxClick), 413},
	} {
		if w := d.post(c.body, signSlack(slackSigning(), d.clock, c.body)); w.Code != c.code {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.code)
		}
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: status %d", w.Code)
	}
	if len(d.verdicts) != 0 {
		t.Errorf("verdicts %v", d.verdicts)
	}
}

// Slack has its answer before it is told more: the two do not wait for each other.
func TestAcknowledgedFirst(t *testing.T) {
	d := newDesk(t)
	d.hang()
	server := httptest.NewServer(d.handler)
	defer server.Close()
	form := d.clickOf("U0ADA", actionApprove, "1").Encode()
	ctx, cancel := context.WithTimeout(t.Context(), answerTime/2)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = signSlack(slackSigning(), d.clock, form)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	if len(d.taken()) != 0 {
		t.Error("Slack was told more before it had its answer")
	}
	d.release()
}

// Slack, once it has its answer, may close the connection; the outcome is told all the same.
func TestSlackLeaves(t *testing.T) {
	d := newDesk(t)
	ctx, leave := context.WithCancel(t.Context())
	handler := d.sender.Clicks(func(context.Context, cred.Principal, cred.GrantID, string, cred.Verdict) error {
		leave()
		return nil
	}, slog.New(slog.NewTextHandler(d.log, nil)))
	form := d.clickOf("U0ADA", actionApprove, "1").Encode()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form)).WithContext(ctx)
	r.Header = signSlack(slackSigning(), d.clock, form)
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if _, text := d.told(); text != "Approved by <@U0ADA>" {
		t.Errorf("told %q", text)
	}
}

// A message that comes back from Slack is escaped anew before it is posted again.
func TestUpdateIsInert(t *testing.T) {
	var c click
	c.Message.Blocks = []map[string]any{{"type": "section", "text": map[string]any{"text": "<!channel>"}}}
	for _, over := range []bool{false, true} {
		b, err := json.Marshal(c.update(outcome{text: "x", everyone: true, over: over}))
		if err != nil || strings.Contains(readable(t, b), "<") || !strings.Contains(readable(t, b), "&lt;!channel>") {
			t.Errorf("%s, %v", b, err)
		}
	}
}

// A message that comes back from Slack with its escapes undone is escaped anew, but for mentions.
func TestInert(t *testing.T) {
	in := map[string]any{"text": map[string]any{"text": "<!channel> <https://evil.example.com|daypass> <@U0ADA> <@U0ADA|x> &lt;"}, "n": 1.0, "l": []any{"<", true}}
	want := map[string]any{"text": map[string]any{"text": "&lt;!channel> &lt;https://evil.example.com|daypass> <@U0ADA> &lt;@U0ADA|x> &lt;"}, "n": 1.0, "l": []any{"&lt;", true}}
	if got := inert(in); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// FuzzClick: whatever is signed, only a mapped user's click on one of our buttons is a verdict, and
// nothing is posted elsewhere than to Slack.
func FuzzClick(f *testing.F) {
	d := newDesk(f)
	for _, user := range []string{"U0ADA", "U0EVE"} {
		f.Add(d.clickOf(user, actionApprove, "1").Get("payload"))
		f.Add(d.clickOf(user, actionOpen, "1").Get("payload"))
	}
	f.Add(`{"type":"block_actions","actions":[{"action_id":"daypass_deny","value":"/"}],"message":{"blocks":[{"type":1},{}]}}`)
	f.Fuzz(func(t *testing.T, payload string) {
		var c click
		readable := json.Unmarshal([]byte(payload), &c) == nil
		s, err := NewSlack(SlackOptions{Token: slackToken(), Channel: "C0SEC", SigningSecret: slackSigning(), Users: map[string]cred.Principal{"U0ADA": ada()}, Now: func() time.Time { return noon }})
		if err != nil {
			t.Fatal(err)
		}
		s.receiver.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Scheme != "https" || r.URL.Host != "hooks.slack.com" {
				t.Errorf("posted to %s", r.URL)
			}
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
		})
		handler := s.Clicks(func(_ context.Context, who cred.Principal, id cred.GrantID, digest string, _ cred.Verdict) error {
			if !readable || c.User.ID != "U0ADA" || !who.Same(ada()) || id == "" || digest == "" {
				t.Errorf("a verdict of %v about %q %q", who, id, digest)
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		body := url.Values{"payload": {payload}}.Encode()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header = signSlack(slackSigning(), noon, body)
		handler.ServeHTTP(httptest.NewRecorder(), r)
	})
}
