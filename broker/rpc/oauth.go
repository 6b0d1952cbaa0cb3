package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// Names of RFC 8693, sections 2.1 and 3.
//
//nolint:gosec // G101: names of token types, no tokens
const (
	grantTypeExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeJWT      = "urn:ietf:params:oauth:token-type:jwt"
	tokenTypeID       = "urn:ietf:params:oauth:token-type:id_token"
	tokenTypeAccess   = "urn:ietf:params:oauth:token-type:access_token"
)

// maxFormBytes bounds the body of a token request.
const maxFormBytes = 64 << 10

// tokenResponse is RFC 8693, section 2.2.1, with what daypass adds.
type tokenResponse struct {
	AccessToken     string           `json:"access_token"`
	IssuedTokenType string           `json:"issued_token_type"`
	TokenType       string           `json:"token_type"`
	ExpiresIn       int64            `json:"expires_in"` // seconds
	Scope           string           `json:"scope,omitempty"`
	GrantID         string           `json:"grant_id"`
	Credential      *tokenCredential `json:"credential,omitempty"` // for a target that is delivered directly
}

type tokenCredential struct {
	Type      string            `json:"type"`
	Fields    map[string]string `json:"fields"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

// token is the token exchange of RFC 8693: subject_token is the caller's ID token, audience the
// target's name; actor_token is that of an agent that acts for the caller. A request that waits for
// approval is answered with authorization_pending and its request_id: ask again with it, or with the
// same Idempotency-Key.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	asked, want, err := s.readTokenRequest(form, r.Header["Idempotency-Key"])
	if errors.Is(err, errNoSubject) {
		return s.broker.RefuseUnidentified(ctx, r.URL.Path, err)
	}
	if err != nil {
		return err
	}
	who, err := s.broker.Authenticate(ctx, form.Get("subject_token"))
	if err != nil {
		return err
	}
	if form.Has("actor_token") {
		if who, err = s.broker.ActFor(ctx, who, form.Get("actor_token")); err != nil {
			return err
		}
	}
	if who.Key, want.Binding, err = s.binder.ofRequest(r); err != nil {
		return s.broker.RefuseBinding(ctx, who.Principal, err)
	}
	leave, err := s.inFlight.enter()
	if err != nil {
		return err
	}
	defer leave()
	got, err := s.broker.Deliver(ctx, who, want, cred.GrantID(asked.GetRequestId()))
	if err != nil {
		return err
	}
	if got.Grant.State() == cred.GrantPending {
		writePending(w, got.Grant)
		return nil
	}
	out := tokenResponse{
		AccessToken: got.Token.RevealString(), IssuedTokenType: tokenTypeAccess, TokenType: tokenTypeOf(got.Grant),
		ExpiresIn: int64(time.Until(got.Grant.NotAfter).Seconds()),
		Scope:     strings.Join(got.Grant.Want.Scopes, " "), GrantID: string(got.Grant.ID),
	}
	if got.Redeemed != nil {
		c := credentialTo(*got.Redeemed)
		out.Credential = &tokenCredential{Type: c.GetType(), Fields: c.GetFields(), ExpiresAt: got.Redeemed.Credential.NotAfter}
	}
	writeJSON(w, http.StatusOK, "application/json", out)
	return nil
}

// tokenTypeOf is how the grant token is shown to a proxy (RFC 6750; RFC 9449, section 5).
func tokenTypeOf(g cred.Grant) string {
	if g.Want.Binding == cred.BindDPoP {
		return "DPoP"
	}
	return "Bearer"
}

// readForm reads the body of a request as RFC 6749, section 3.2, has it: parameters stand in the body
// alone, where no log of addresses keeps them.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters go into the body, not into the address")
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("the body must be a form: Content-Type: application/x-www-form-urlencoded")
	}
	body := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+min(max(r.ContentLength, 0), 4<<10)))
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxFormBytes)); err != nil {
		return nil, errNoForm
	}
	form, err := parseForm(body.String())
	if err != nil {
		return nil, err
	}
	r.PostForm = form
	return form, nil
}

var errNoForm = invalidRequest("the body is not a form, or larger than 64 KiB")

// parseForm is url.ParseQuery without a copy of each value: most of a form is a token, which has nothing
// to unescape. The form must be UTF-8.
func parseForm(body string) (url.Values, error) {
	if strings.Contains(body, ";") {
		return nil, errNoForm
	}
	form := make(url.Values, 8)
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := unescape(name)
		value, err2 := unescape(value)
		switch {
		case err1 != nil || err2 != nil:
			return nil, errNoForm
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, invalidRequest("the form is not UTF-8")
		}
		form[name] = append(form[name], value)
	}
	return form, nil
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, "%") && !strings.Contains(s, "+") {
		return s, nil
	}
	return url.QueryUnescape(s)
}

// errNoSubject is the refusal of a request that shows no identity at all.
var errNoSubject = invalidRequest("subject_token, your OIDC ID token, is missing")

// readTokenRequest reads the form of RFC 8693, section 2.1. A parameter that is given twice, or one
// that asks for what we don't do, is refused; one that we don't know is ignored (RFC 6749, section 3.2).
// What is asked for must keep to the same rules as over gRPC.
func (s *Server) readTokenRequest(f url.Values, keys []string) (asked *pb.ExchangeRequest, want cred.Request, err error) {
	if err := checkTokenForm(f, keys); err != nil {
		return nil, want, err
	}
	asked = &pb.ExchangeRequest{
		Target: f.Get("audience"), Scopes: strings.Fields(f.Get("scope")), Reason: f.Get("reason"),
		IdempotencyKey: strings.Join(keys, ""), ActorToken: f.Get("actor_token"), RequestId: f.Get("request_id"),
	}
	if err := s.check(asked); err != nil {
		return nil, want, err
	}
	return asked, requestFrom(asked), nil
}

func checkTokenForm(f url.Values, keys []string) error {
	if len(f["audience"]) > 1 || f.Has("resource") {
		return &cred.Error{Kind: cred.Invalid, Op: "token", Reason: "ONE_TARGET", Public: "ask for one target at a time, with one audience and no resource"}
	}
	for name, values := range f {
		if len(values) != 1 {
			return invalidRequest(fmt.Sprintf("the parameter %.64q is given more than once", name))
		}
	}
	switch {
	case len(keys) > 1 || len(keys) == 1 && !utf8.ValidString(keys[0]):
		return invalidRequest("send at most one Idempotency-Key, in UTF-8")
	case f.Get("grant_type") == "":
		return invalidRequest("grant_type is missing")
	case f.Get("grant_type") != grantTypeExchange:
		return &cred.Error{Kind: cred.Invalid, Op: "token", Reason: "GRANT_TYPE_UNSUPPORTED", Public: "grant_type must be " + grantTypeExchange}
	case f.Get("subject_token") == "":
		return errNoSubject
	case f.Get("audience") == "":
		return invalidRequest("audience, the target's name, is missing")
	case f.Get("subject_token_type") != tokenTypeJWT && f.Get("subject_token_type") != tokenTypeID:
		return invalidRequest("subject_token_type must be that of an ID token or a JWT")
	case f.Has("actor_token") != f.Has("actor_token_type"):
		return invalidRequest("actor_token and actor_token_type go together")
	case f.Has("actor_token") && f.Get("actor_token_type") != tokenTypeJWT && f.Get("actor_token_type") != tokenTypeID:
		return invalidRequest("actor_token_type must be that of an ID token or a JWT")
	case f.Get("requested_token_type") != "" && f.Get("requested_token_type") != tokenTypeAccess:
		return invalidRequest("requested_token_type can only be " + tokenTypeAccess)
	}
	return nil
}

func invalidRequest(public string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "token", Reason: "INVALID_REQUEST", Public: public}
}

// revoke is RFC 7009: the grant token that is sent authenticates its own revocation, and a token that
// we don't know is no error.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	if len(form["token"]) != 1 || form.Get("token") == "" {
		return invalidRequest("send one parameter 'token' with the grant token")
	}
	err = s.revokeByToken(r.Context(), form.Get("token"))
	if err != nil && mayStillLive(cred.KindOf(err)) {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) revokeByToken(ctx context.Context, tok string) error {
	who, id, err := s.broker.AuthenticateGrant(ctx, tok)
	if err != nil {
		return err
	}
	leave, err := s.inFlight.enter()
	if err != nil {
		return err
	}
	defer leave()
	_, _, err = s.broker.Revoke(ctx, who.Principal, id, "revoked with its token")
	return err
}

// mayStillLive tells the failures after which a token must be taken for a live one (RFC 7009, section
// 2.2.1); after every other one it is not worth anything.
func mayStillLive(k cred.Kind) bool {
	return k == cred.Unavailable || k == cred.Internal || k == cred.Exhausted
}
