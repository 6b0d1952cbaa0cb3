package notice

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// webhookSecret is made here so that it looks like nobody's.
func webhookSecret() cred.Secret {
	return cred.SecretString("whsec" + "_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("key of a test. ", 2))))
}

type webhookRig struct {
	*endpoint
	sender *Webhook
}

func newWebhookRig(t testing.TB, tls bool) *webhookRig {
	e := newEndpoint(t, tls)
	e.verify = func(h hit) error { return verifyWebhook(h, webhookSecret(), time.Now()) }
	o := WebhookOptions{URL: e.URL + "/hook?q=1", Secret: webhookSecret(), AllowPlain: !tls, Console: console, Now: time.Now}
	if tls {
		o.CAFile = e.caFile()
	}
	s, err := NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.receiver.client.CloseIdleConnections)
	return &webhookRig{e, s}
}

func (w *webhookRig) rig(read func(hit) delivery, s Sender, secrets ...string) rig {
	return rigOf(w.endpoint, read, s, secrets...)
}

// verifyWebhook is a receiver's check, written from the specification ("Verifying signatures").
func verifyWebhook(h hit, secret cred.Secret, now time.Time) error {
	id, stamp := h.header.Get("webhook-id"), h.header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if id == "" || err != nil || strings.Contains(id, ".") {
		return errors.New("no ID or timestamp")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age.Abs() > 5*time.Minute {
		return fmt.Errorf("the timestamp is %v old", age)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.RevealString(), "whsec_"))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, stamp, h.body)
	want := mac.Sum(nil)
	for _, signature := range strings.Split(h.header.Get("webhook-signature"), " ") {
		version, encoded, _ := strings.Cut(signature, ",")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("no signature fits")
}

// vectors are those of the specification's own libraries.
func TestWebhookVectors(t *testing.T) {
	key := cred.SecretString("whsec" + "_" + "MfKQ9r8GKYqrTwjUPD8" + "ILPZIo2LaLaSw")
	const id, stamp, body, want = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	for _, secret := range []cred.Secret{key, cred.SecretString(strings.TrimPrefix(key.RevealString(), "whsec"+"_"))} {
		w, err := NewWebhook(WebhookOptions{URL: "https://example.com", Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.sign(id, stamp, []byte(body)); got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
	}
	at := time.Unix(1614265330, 0)
	good := func() hit {
		h := hit{header: http.Header{}, body: []byte(body)}
		h.header.Set("webhook-id", id)
		h.header.Set("webhook-timestamp", stamp)
		h.header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" "+want)
		return h
	}
	if err := verifyWebhook(good(), key, at); err != nil {
		t.Fatalf("the test's verifier refuses the vector: %v", err)
	}
	for name, change := range map[string]func(h *hit){
		"another body":      func(h *hit) { h.body[3] ^= 1 },
		"another ID":        func(h *hit) { h.header.Set("webhook-id", "msg_other") },
		"another timestamp": func(h *hit) { h.header.Set("webhook-timestamp", "1614265331") },
		"no signature":      func(h *hit) { h.header.Del("webhook-signature") },
		"another version":   func(h *hit) { h.header.Set("webhook-signature", "v2"+strings.TrimPrefix(want, "v1")) },
	} {
		h := good()
		change(&h)
		if verifyWebhook(h, key, at) == nil {
			t.Errorf("the test's verifier takes %s", name)
		}
	}
	if verifyWebhook(good(), key, at.Add(6*time.Minute)) == nil {
		t.Error("the test's verifier takes an old request")
	}
}

func TestWebhookBody(t *testing.T) {
	w := newWebhookRig(t, false)
	if err := w.sender.Send(within(t), pending()); err != nil {
		t.Fatal(err)
	}
	h := w.last()
	var got map[string]any
	if err := json.Unmarshal(h.body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"type": "request.pending", "timestamp": "2026-11-20T12:00:00Z",
		"data": map[string]any{
			"id": "nt_1", "kind": "request.pending", "at": "2026-11-20T12:00:00Z", "grant": string(grantID), "requester": "Grace",
			"actor": "build-agent", "target": "orders-db", "scopes": []any{"read", "write"}, "reason": "fix order 4711",
			"rule": "deploys", "digest": strings.Repeat("ab", 32), "deadline": "2026-11-20T13:00:00Z",
			"groups": []any{"leads", "security"}, "text": "One of leads and one of security must agree.",
			"url": console + "/requests/" + string(grantID),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if h.path != "/hook?q=1" || h.header.Get("Content-Type") != "application/json" || h.header.Get("User-Agent") != "daypass" {
		t.Errorf("request %s %v", h.path, h.header)
	}
}

// While a receiver changes over, the new and the old secret verify.
func TestWebhookRotation(t *testing.T) {
	e := newEndpoint(t, false)
	next := cred.SecretString(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("another key. ", 2))))
	s, err := NewWebhook(WebhookOptions{URL: e.URL, Secret: next, Previous: webhookSecret(), AllowPlain: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.receiver.client.CloseIdleConnections()
	if err := s.Send(within(t), pending()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []cred.Secret{next, webhookSecret()} {
		if err := verifyWebhook(e.last(), secret, time.Now()); err != nil {
			t.Error(err)
		}
	}
}

func TestWebhookAnswers(t *testing.T) {
	day := func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, hit)
		kind   cred.Kind
		least  time.Duration // the pause that is asked for; zero: none
		most   time.Duration
	}{
		{"404", status(404), cred.Unavailable, 0, 0},
		{"500", status(500), cred.Unavailable, 0, 0},
		{"410", status(410), cred.Invalid, 0, 0},
		{"429", status(429, "Retry-After", "7"), cred.Unavailable, 7 * time.Second, 7 * time.Second},
		{"429 alone", status(429), cred.Unavailable, throttled, throttled},
		{"502", status(502), cred.Unavailable, throttled, throttled},
		{"504", status(504), cred.Unavailable, throttled, throttled},
		{"503 with a date", status(503, "Retry-After", day()), cred.Unavailable, 60 * time.Second, 90 * time.Second},
		{"503 with nonsense", status(503, "Retry-After", "-5"), cred.Unavailable, 0, 0},
		{"a past date", status(503, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT"), cred.Unavailable, 0, 0},
		{"redirect", status(302, "Location", "/elsewhere"), cred.Unavailable, 0, 0},
		{"redirect 307", status(307, "Location", "/elsewhere"), cred.Unavailable, 0, 0},
	} {
		w := newWebhookRig(t, false)
		w.answer = c.answer
		err := w.sender.Send(within(t), pending())
		if err == nil || cred.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		var wait time.Duration
		if r, ok := errors.AsType[retryAfter](err); ok {
			wait = r.RetryAfter()
		}
		if wait < c.least || wait > c.most {
			t.Errorf("%s: pause %v, want %v to %v", c.name, wait, c.least, c.most)
		}
		if got := w.taken(); len(got) != 1 || got[0].path != "/hook?q=1" {
			t.Errorf("%s: %d requests", c.name, len(got))
		}
	}
}

// What a receiver answers is read up to a bound.
func TestAnswersAreBounded(t *testing.T) {
	w := newWebhookRig(t, false)
	sent := make(chan int, 1)
	w.answer = func(rw http.ResponseWriter, _ hit) {
		n, piece := 0, make([]byte, 1<<20)
		for range 200 {
			m, err := rw.Write(piece)
			if n += m; err != nil {
				break
			}
		}
		sent <- n
	}
	if err := w.sender.Send(within(t), pending()); err != nil {
		t.Fatal(err)
	}
	if n := <-sent; n >= 200<<20 {
		t.Errorf("the sender took %d bytes", n)
	}
}

func TestWebhookRefusesOptions(t *testing.T) {
	good := func() WebhookOptions {
		return WebhookOptions{URL: "https://siem.example.com/x", Secret: webhookSecret()}
	}
	if _, err := NewWebhook(good()); err != nil {
		t.Fatal(err)
	}
	secret := func(n int) cred.Secret {
		return cred.SecretString(base64.StdEncoding.EncodeToString(make([]byte, n)))
	}
	for name, change := range map[string]func(o *WebhookOptions){
		"no URL":                    func(o *WebhookOptions) { o.URL = "" },
		"http":                      func(o *WebhookOptions) { o.URL = "http://siem.example.com" },
		"http elsewhere, allowed":   func(o *WebhookOptions) { o.URL, o.AllowPlain = "http://siem.example.com", true },
		"http on loopback":          func(o *WebhookOptions) { o.URL = "http://127.0.0.1:1" },
		"a file":                    func(o *WebhookOptions) { o.URL, o.AllowPlain = "file:///etc/passwd", true },
		"user information":          func(o *WebhookOptions) { o.URL = "https://user@siem.example.com" },
		"a fragment":                func(o *WebhookOptions) { o.URL = "https://siem.example.com/#a" },
		"no secret":                 func(o *WebhookOptions) { o.Secret = cred.Secret{} },
		"a short secret":            func(o *WebhookOptions) { o.Secret = secret(23) },
		"a long secret":             func(o *WebhookOptions) { o.Secret = secret(65) },
		"a secret without base64":   func(o *WebhookOptions) { o.Secret = cred.SecretString(strings.Repeat("!", 40)) },
		"a short previous secret":   func(o *WebhookOptions) { o.Previous = secret(5) },
		"a CA file that is not one": func(o *WebhookOptions) { o.CAFile = "webhook_test.go" },
		"no CA file":                func(o *WebhookOptions) { o.CAFile = "none.pem" },
	} {
		o := good()
		change(&o)
		if _, err := NewWebhook(o); cred.KindOf(err) != cred.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that the CA did not sign gets nothing.
func TestWebhookVerifiesTheServer(t *testing.T) {
	w := newWebhookRig(t, true)
	o := WebhookOptions{URL: w.URL, Secret: webhookSecret()}
	s, err := NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Config.ErrorLog = quiet
	if err := s.Send(within(t), pending()); cred.KindOf(err) != cred.Unavailable || len(w.taken()) != 0 {
		t.Errorf("error %v, %d requests", err, len(w.taken()))
	}
}
