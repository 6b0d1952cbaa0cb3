package rpc

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

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

	// What daypass adds (RFC 9457, section 3.2).
	Reason string `json:"reason,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Claim  string `json:"claim,omitempty"`
}

func writeProblem(w http.ResponseWriter, err error) {
	kind := cred.KindOf(err)
	p := problemOf(httpStatusOf[kind], cred.PublicText(err))
	if e, ok := errors.AsType[*cred.Error](err); ok && kind != cred.Internal {
		p.Reason, p.Rule, p.Claim = e.Reason, e.Rule, e.Claim
	}
	setRetryAfter(w, err)
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeProblemStatus(w http.ResponseWriter, code int, detail string) {
	writeJSON(w, code, "application/problem+json", problemOf(code, detail))
}

func problemOf(code int, detail string) problem {
	return problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: detail}
}

// setRetryAfter says when to come back (RFC 9110, section 10.2.3), for failures that pass.
func setRetryAfter(w http.ResponseWriter, err error) {
	kind := cred.KindOf(err)
	if kind != cred.Unavailable && kind != cred.Exhausted {
		return
	}
	seconds := int64(1)
	if e, ok := errors.AsType[*cred.Error](err); ok {
		seconds = max(seconds, int64(math.Ceil(e.RetryAfter.Seconds())))
	}
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
}

// oauthError is RFC 6749, section 5.2.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Rule        string `json:"rule,omitempty"`
	Claim       string `json:"claim,omitempty"`
	RequestID   string `json:"request_id,omitempty"` // of a request that waits for approval
	Interval    int    `json:"interval,omitempty"`   // seconds to wait before asking again (RFC 8628, section 3.2)
}

// pollSeconds is how often a client may ask whether its request is approved.
const pollSeconds = 5

// writePending says that a request waits for approval, as RFC 8628, section 3.5, has it.
func writePending(w http.ResponseWriter, g cred.Grant) {
	writeJSON(w, http.StatusBadRequest, "application/json", oauthError{
		Error: "authorization_pending", Description: "this needs the approval of others, who have been asked; ask again with this request_id",
		Rule: g.Rule, RequestID: string(g.ID), Interval: pollSeconds,
	})
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
	"USE_DPOP_NONCE":         "use_dpop_nonce",     // RFC 9449, section 8
	"INVALID_DPOP_PROOF":     "invalid_dpop_proof", // RFC 9449, section 5
	"DPOP_PROOF_REPLAYED":    "invalid_dpop_proof",
	"DPOP_KEY_MISMATCH":      "invalid_dpop_proof",
	"REQUEST_DENIED":         "access_denied", // RFC 8628, section 3.5
	"REQUEST_EXPIRED":        "expired_token",
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
		setRetryAfter(w, err)
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
