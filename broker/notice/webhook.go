package notice

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// WebhookOptions say where a webhook goes.
type WebhookOptions struct {
	URL string
	// Secret signs: the base64 of 24 to 64 bytes, with or without "whsec_" before it.
	Secret cred.Secret
	// Previous signs too while a receiver changes over; it may be zero.
	Previous   cred.Secret
	CAFile     string           // PEM; empty: the system's CAs
	AllowPlain bool             // permits http on a loopback address
	Console    string           // base URL of the console, for links; may be empty
	Now        func() time.Time // for the signature's timestamp; nil: time.Now
}

// Webhook posts notices as JSON, signed as Standard Webhooks 1.0.0 says (symmetric, v1):
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
type Webhook struct {
	receiver *receiver
	url      string
	keys     []cred.Secret // decoded
	console  string
}

// NewWebhook returns a Sender for a webhook. The error is Invalid for a URL or a secret that can't be
// used.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	const op = "notice.webhook"
	if err := checkURL(op, o.URL, o.AllowPlain); err != nil {
		return nil, err
	}
	r, err := newReceiver(op, o.CAFile, o.Now)
	if err != nil {
		return nil, err
	}
	w := &Webhook{receiver: r, url: o.URL, console: o.Console}
	for i, secret := range []cred.Secret{o.Secret, o.Previous} {
		if i > 0 && secret.IsZero() {
			continue
		}
		key, err := webhookKey(secret)
		if err != nil {
			return nil, err
		}
		w.keys = append(w.keys, key)
	}
	return w, nil
}

func webhookKey(secret cred.Secret) (cred.Secret, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.RevealString(), "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return cred.Secret{}, &cred.Error{
			Kind: cred.Invalid, Op: "notice.webhook", Reason: "CHANNEL_INVALID",
			Public: `the secret of a webhook must be 24 to 64 random bytes in base64, with or without "whsec_" before them`,
		}
	}
	return cred.NewSecret(key), nil
}

// webhookBody is a webhook's body. Its shape is what the specification recommends.
type webhookBody struct {
	Type      Kind      `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it happened; the header has the time of the try
	Data      any       `json:"data"`
}

// webhookData is a notice with what its readers can follow.
type webhookData struct {
	Notice
	URL string `json:"url,omitempty"` // of the console's page
}

// Send implements Sender.
func (w *Webhook) Send(ctx context.Context, n Notice) error {
	body, err := json.Marshal(webhookBody{Type: n.Kind, Timestamp: n.At.UTC(), Data: webhookData{n, n.link(w.console)}})
	if err != nil {
		return cred.Errorf(cred.Invalid, "notice.webhook", "the notice can't be encoded", "%w", err)
	}
	stamp := strconv.FormatInt(w.receiver.now().Unix(), 10)
	a, err := w.receiver.post(ctx, w.url, http.Header{
		"Content-Type":      {"application/json"},
		"Webhook-Id":        {n.ID},
		"Webhook-Timestamp": {stamp},
		"Webhook-Signature": {w.sign(n.ID, stamp, body)},
	}, body)
	if err != nil {
		return err
	}
	return w.receiver.accepted(a)
}

// sign returns the signature header: one signature for each key.
func (w *Webhook) sign(id, stamp string, body []byte) string {
	var all []string
	for _, key := range w.keys {
		mac := hmac.New(sha256.New, key.Reveal())
		mac.Write([]byte(id + "." + stamp + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}
