package rpc

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/daypass-io/daypass/cred"
)

// httpStatusOf is the one mapper from our errors to HTTP statuses.
var httpStatusOf = map[cred.Kind]int{
	cred.Internal:        http.StatusInternalServerError,
	cred.Invalid:         http.StatusBadRequest,
	cred.Unauthenticated: http.StatusUnauthorized,
	cred.Denied:          http.StatusForbidden,
	cred.NotFound:        http.StatusNotFound,
	cred.Pending:         http.StatusAccepted,
	cred.Expired:         http.StatusForbidden,
	cred.Conflict:        http.StatusConflict,
	cred.Exhausted:       http.StatusTooManyRequests,
	cred.Unavailable:     http.StatusServiceUnavailable,
}

// problem is an RFC 9457 problem document.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func writeProblem(w http.ResponseWriter, err error) {
	writeProblemStatus(w, httpStatusOf[cred.KindOf(err)], cred.PublicText(err))
}

func writeProblemStatus(w http.ResponseWriter, code int, detail string) {
	writeJSON(w, code, "application/problem+json", problem{
		Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: detail,
	})
}

// oauthError is RFC 6749, section 5.2.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Rule        string `json:"rule,omitempty"`
	Claim       string `json:"claim,omitempty"`
}

// oauthCodeOf says each kind in OAuth's words: a bad subject token is invalid_request and a target
// that is refused invalid_target (RFC 8693, section 2.2.2).
var oauthCodeOf = map[cred.Kind]string{
	cred.Internal:        "server_error",
	cred.Invalid:         "invalid_request",
	cred.Unauthenticated: "invalid_request",
	cred.Denied:          "invalid_target",
	cred.NotFound:        "invalid_target",
	cred.Pending:         "authorization_pending", // RFC 8628, section 3.5
	cred.Expired:         "invalid_request",
	cred.Conflict:        "invalid_request",
	cred.Exhausted:       "temporarily_unavailable",
	cred.Unavailable:     "temporarily_unavailable",
}

// oauthCodeOfReason are the reasons for which OAuth has a word of its own.
var oauthCodeOfReason = map[string]string{
	"GRANT_TYPE_UNSUPPORTED": "unsupported_grant_type",
	"ONE_TARGET":             "invalid_target",
	"SCOPE_MALFORMED":        "invalid_scope",
	"SCOPE_NOT_ALLOWED":      "invalid_scope",
}

// writeOAuthError answers 400 for all that is the caller's, else the kind's own status.
func writeOAuthError(w http.ResponseWriter, err error) {
	kind := cred.KindOf(err)
	out := oauthError{Error: oauthCodeOf[kind], Description: cred.PublicText(err)}
	if e, ok := errors.AsType[*cred.Error](err); ok && kind != cred.Internal {
		out.Rule, out.Claim = e.Rule, e.Claim
		if code := oauthCodeOfReason[e.Reason]; code != "" {
			out.Error = code
		}
	}
	code := http.StatusBadRequest
	switch kind {
	case cred.Unavailable, cred.Exhausted:
		w.Header().Set("Retry-After", "1")
		code = httpStatusOf[kind]
	case cred.Internal:
		code = httpStatusOf[kind]
	}
	writeJSON(w, code, "application/json", out)
}

// writeJSON answers with a document that no cache may keep.
func writeJSON(w http.ResponseWriter, code int, contentType string, body any) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache") // RFC 6749, section 5.1
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller went away: nobody is left to tell
}
