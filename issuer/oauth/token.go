package oauth

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

// token is what a server made.
type token struct {
	access, refresh cred.Secret
	kind            string  // token_type
	issued          string  // issued_token_type, RFC 8693
	scope           *string // nil: as asked
	notAfter        time.Time
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

// readToken reads an answer to a request that was made at an instant.
func readToken(r *request, a answer, asked time.Time) (token, error) {
	if a.status != 200 && a.status != 201 {
		return token{}, r.failure(a)
	}
	var w wireToken
	if err := json.Unmarshal(a.body, &w); err != nil {
		// The cause is not kept: it may quote the answer.
		return token{}, &callError{op: r.op, status: a.status, err: errors.New("the answer is no JSON object of a token")}
	}
	if w.Error != "" { // some servers refuse with status 200
		return token{}, r.failure(a)
	}
	if !printable(w.AccessToken) || w.RefreshToken != "" && !printable(w.RefreshToken) {
		return token{}, &callError{op: r.op, status: a.status, err: errors.New("the answer holds no access token, or one that no header can carry")}
	}
	t := token{
		access: cred.SecretString(w.AccessToken), refresh: cred.SecretString(w.RefreshToken),
		kind: w.TokenType, issued: w.IssuedType, scope: w.Scope,
	}
	if life := lifeOf(w.ExpiresIn); life > 0 {
		t.notAfter = asked.Add(life)
	}
	return t, nil
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

// printable reports whether a text is VSCHARs alone (RFC 6749, appendix A): anything else could break
// out of the header that it is put into.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// spendable reports whether a token can be spent as it is: as a bearer token, or, where it was
// exchanged, as something that is no access token (RFC 8693, section 2.2.1: N_A).
func (t token) spendable(grant Grant) bool {
	return strings.EqualFold(t.kind, "bearer") || grant == TokenExchange && strings.EqualFold(t.kind, "N_A")
}
