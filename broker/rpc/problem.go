package rpc

import (
	"encoding/json"
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
	code := httpStatusOf[cred.KindOf(err)]
	writeJSON(w, code, "application/problem+json", problem{
		Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: cred.PublicText(err),
	})
}

// writeJSON answers with a document that no cache may keep.
func writeJSON(w http.ResponseWriter, code int, contentType string, body any) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller went away: nobody is left to tell
}
