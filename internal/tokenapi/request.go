package tokenapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass-io/daypass/cred"
)

// Request is one request, and which parts of it are secret.
type Request struct {
	Op     string     // for the log
	Params url.Values // sent as a form, or as an object of strings
	Body   func() any // makes, for each try, what is sent as JSON in place of Params; nil for none
	JSON   bool       // send Params as JSON
	Header map[string]string
	Sign   func(r *http.Request, body string) error // signs what is sent; nil for nothing

	user    string // of Basic authentication; empty: none
	bearer  cred.Secret
	pass    cred.Secret
	secrets []cred.Secret
}

// NewRequest returns a request without parameters.
func NewRequest(op string) *Request { return &Request{Op: op, Params: url.Values{}} }

// Set sets a parameter.
func (r *Request) Set(name, value string) { r.Params.Set(name, value) }

// SetSecret sets a parameter that no error may quote.
func (r *Request) SetSecret(name string, value cred.Secret) {
	r.Params.Set(name, value.RevealString())
	r.Hide(value)
}

// SetBearer puts a token into the header.
func (r *Request) SetBearer(token cred.Secret) {
	r.bearer = token
	r.Hide(token)
}

// SetBasic puts a user and a password into the header.
func (r *Request) SetBasic(user string, password cred.Secret) {
	r.user, r.pass = user, password
	r.Hide(password)
}

// Hide keeps a text out of errors.
func (r *Request) Hide(s cred.Secret) { r.secrets = append(r.secrets, s) }

// Answer is what came back.
type Answer struct {
	Status int
	Body   []byte
	Header http.Header
	Asked  time.Time // when the request was made
}

// RetryAfter is how long the server asks to be left alone, an hour at most; zero where it does not say.
func (a Answer) RetryAfter() time.Duration { return retryAfter(a.Header) }

// Clock is when the answer was given, by the server's clock, which the Date header tells; without one it
// is when we asked.
func (a Answer) Clock() time.Time {
	if at, err := http.ParseTime(a.Header.Get("Date")); err == nil {
		return at
	}
	return a.Asked
}

// LimitedFor is how long a rate limit lasts that the answer is about, a second at least and an hour at
// most: by Retry-After in either form (RFC 9110, section 10.2.3), else until the Unix time in the header
// reset; a minute where neither says.
func (a Answer) LimitedFor(reset string) time.Duration {
	limited, after := time.Minute, a.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(after, 10, 20); err == nil {
		limited = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(after); err == nil {
		limited = at.Sub(a.Clock())
	} else if at, err := strconv.ParseInt(a.Header.Get(reset), 10, 64); err == nil {
		limited = time.Unix(at, 0).Sub(a.Clock())
	}
	return min(max(limited, time.Second), time.Hour)
}

func (a Answer) ok() bool { return a.Status == http.StatusOK || a.Status == http.StatusCreated }

func (r *Request) build(ctx context.Context, to string) (*http.Request, error) {
	body, kind, err := r.encode()
	if err != nil {
		return nil, err
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Header.Set("Content-Type", kind)
	out.Header.Set("Accept", "application/json") // some answer with a form otherwise
	for name, value := range maps.All(r.Header) {
		out.Header.Set(name, value)
	}
	if r.user != "" {
		out.SetBasicAuth(r.user, r.pass.RevealString())
	}
	if !r.bearer.IsZero() {
		out.Header.Set("Authorization", "Bearer "+r.bearer.RevealString())
	}
	if r.Sign != nil {
		err = r.Sign(out, body)
	}
	return out, err
}

func (r *Request) encode() (body, kind string, err error) {
	if r.Body == nil && !r.JSON {
		return r.Params.Encode(), "application/x-www-form-urlencoded", nil
	}
	var whole any = r.flat()
	if r.Body != nil {
		whole = r.Body()
	}
	b, err := json.Marshal(whole, json.Deterministic(true))
	return string(b), "application/json", err
}

// flat is the parameters as an object of strings.
func (r *Request) flat() map[string]string {
	flat := map[string]string{}
	for name := range r.Params {
		flat[name] = r.Params.Get(name)
	}
	return flat
}

// Failure makes an *Error of an answer that is no success: RFC 6749, section 5.2, or Google's form,
// https://google.aip.dev/193.
func (r *Request) Failure(a Answer) error {
	var said struct {
		Error       jsontext.Value `json:"error"`
		Description string         `json:"error_description"`
		Numbers     jsontext.Value `json:"error_codes"`
	}
	_ = json.Unmarshal(a.Body, &said) // a proxy's page is not JSON: then the status is all there is
	var code string
	var numbers []int
	_ = json.Unmarshal(said.Numbers, &numbers)
	if json.Unmarshal(said.Error, &code) != nil {
		var google struct {
			Message string `json:"message"`
			Status  string `json:"status"`
		}
		if json.Unmarshal(said.Error, &google) == nil {
			code, said.Description = google.Status, google.Message
		}
	}
	return &Error{
		Op: r.Op, Status: a.Status, Code: r.Clean(code, 64), Numbers: numbers, RetryAfter: retryAfter(a.Header),
		Err: fmt.Errorf("the server says %q", r.Clean(said.Description, 300)),
	}
}

// Clean bounds a server's text, in bytes, and takes out of it what we sent, in whatever form it comes back.
func (r *Request) Clean(text string, longest int) string { return shown(text, longest, r.secrets...) }

// retryAfter reads the header in its form of seconds (RFC 9110, section 10.2.3), an hour at most.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}
