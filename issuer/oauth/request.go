package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 256 << 10

// request is one request to the server, and which parts of it are secret.
type request struct {
	op       string // for the log
	params   url.Values
	user     string // of Basic authentication; empty: none
	password cred.Secret
	secrets  []cred.Secret
	asJSON   bool
	header   map[string]string
}

func (cfg *Config) request(op string) *request {
	return &request{op: op, params: url.Values{}, asJSON: cfg.JSON, header: cfg.Header}
}

func (r *request) set(name, value string) { r.params.Set(name, value) }

func (r *request) setSecret(name string, value cred.Secret) {
	r.params.Set(name, value.RevealString())
	r.secrets = append(r.secrets, value)
}

// answer is what came back.
type answer struct {
	status int
	body   []byte
	header http.Header
}

func newHTTP(cfg Config) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxResponseHeaderBytes = 64 << 10
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, invalidConfig("the file with the token server's CA certificates can't be read", err.Error())
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, invalidConfig("the file with the token server's CA certificates holds none in PEM form", "no certificate")
		}
	}
	// A redirect would carry the client's secret to another address.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay}, nil
}

// send sends a request once and never again: it may mint, or spend a refresh token. (net/http by
// itself repeats no POST of which anything was sent.)
func (i *Issuer) send(ctx context.Context, to string, r *request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Timeout)
	defer cancel()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	out, err := r.build(ctx, to)
	if err != nil {
		return answer{}, &callError{op: r.op, unsent: true, err: err}
	}
	resp, err := i.http.Do(out)
	if err != nil {
		return answer{}, &callError{op: r.op, unsent: !connected, err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return answer{}, &callError{op: r.op, err: err}
	}
	return answer{resp.StatusCode, body, resp.Header}, nil
}

func (r *request) build(ctx context.Context, to string) (*http.Request, error) {
	body, kind := r.params.Encode(), "application/x-www-form-urlencoded"
	if r.asJSON {
		flat := map[string]string{}
		for name := range r.params {
			flat[name] = r.params.Get(name)
		}
		b, err := json.Marshal(flat, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		body, kind = string(b), "application/json"
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range maps.All(r.header) {
		out.Header.Set(name, value)
	}
	out.Header.Set("Content-Type", kind)
	out.Header.Set("Accept", "application/json") // some answer with a form otherwise
	if r.user != "" {
		out.SetBasicAuth(r.user, r.password.RevealString())
	}
	return out, nil
}

// failure makes an error of an answer that is no success.
func (r *request) failure(a answer) error {
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(a.body, &said) // a proxy's page is not JSON: then the status is all there is
	return &callError{
		op: r.op, status: a.status, code: r.clean(said.Error, 64), retryAfter: retryAfter(a.header),
		err: fmt.Errorf("the server says %q", r.clean(said.Description, 300)),
	}
}

// clean bounds a server's text and takes out of it what we sent: some quote the request.
func (r *request) clean(text string, longest int) string {
	for _, s := range r.secrets {
		if !s.IsZero() {
			text = strings.ReplaceAll(text, s.RevealString(), "[redacted]")
		}
	}
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, text)
	if len(text) > longest {
		text = text[:longest]
	}
	return text
}

// retryAfter reads the header in its form of seconds (RFC 9110, section 10.2.3), an hour at most.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}
