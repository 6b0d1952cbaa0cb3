package tokenapi

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/daypass-io/daypass/cred"
)

// maxLife is the longest life that is believed; a longer one counts as that.
const maxLife = 10 * 365 * 24 * time.Hour

// Token is what a server made.
type Token struct {
	Access, Refresh cred.Secret
	Kind            string    // token_type
	Issued          string    // issued_token_type, RFC 8693
	Scope           *string   // nil: as asked
	NotAfter        time.Time // zero: the server does not say
}

// wireToken is a token answer: RFC 6749, section 5.1, and RFC 8693, section 2.2.1.
type wireToken struct {
	AccessToken  string         `json:"access_token"`
	TokenType    string         `json:"token_type"`
	IssuedType   string         `json:"issued_token_type"`
	ExpiresIn    jsontext.Value `json:"expires_in"`
	RefreshToken string         `json:"refresh_token"`
	Scope        *string        `json:"scope"`
	Error        string         `json:"error"`
}

// ReadToken reads the answer to a request. Errors are *Error and quote nothing of a token.
func ReadToken(r *Request, a Answer) (Token, error) {
	if !a.ok() {
		return Token{}, r.Failure(a)
	}
	var w wireToken
	if err := json.Unmarshal(a.Body, &w); err != nil {
		// The cause is not kept: it may quote the answer.
		return Token{}, r.Odd(a, "the answer is no JSON object of a token")
	}
	if w.Error != "" { // some servers refuse with status 200
		return Token{}, r.Failure(a)
	}
	if !Printable(w.AccessToken) || w.RefreshToken != "" && !Printable(w.RefreshToken) {
		return Token{}, r.Odd(a, "the answer holds no access token, or one that no header can carry")
	}
	t := Token{
		Access: cred.SecretString(w.AccessToken), Refresh: cred.SecretString(w.RefreshToken),
		Kind: w.TokenType, Issued: w.IssuedType, Scope: w.Scope,
	}
	if life := lifeOf(w.ExpiresIn); life > 0 {
		t.NotAfter = a.Asked.Add(life)
	}
	return t, nil
}

// Odd is the *Error of an answer that is no answer to the request.
func (r *Request) Odd(a Answer, what string) error {
	return &Error{Op: r.Op, Status: a.Status, Err: errors.New(what)}
}

// lifeOf reads expires_in, in seconds: a number, or a string as some servers have it. Zero means that
// the server does not say, which is also what zero and less in the answer mean.
func lifeOf(raw jsontext.Value) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	if seconds > maxLife.Seconds() {
		return maxLife
	}
	return time.Duration(seconds) * time.Second
}

// Printable reports whether a text is VSCHARs alone (RFC 6749, appendix A): anything else could break
// out of the header that it is put into.
func Printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
