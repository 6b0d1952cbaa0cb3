package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// useHeader names the use in the log that an answer belongs to.
const useHeader = "Daypass-Use"

// problem is an RFC 9457 problem document. It never has the text of an inner error.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance,omitempty"`
	Reason   string `json:"reason"`
	Rule     string `json:"rule,omitempty"`
	Claim    string `json:"claim,omitempty"`
}

// statuses maps an error's kind to its status; this is the one place where the front end does so.
var statuses = map[cred.Kind]int{
	cred.Invalid: http.StatusBadRequest, cred.Unauthenticated: http.StatusUnauthorized, cred.Denied: http.StatusForbidden,
	cred.NotFound: http.StatusNotFound, cred.Pending: http.StatusConflict, cred.Expired: http.StatusUnauthorized,
	cred.Conflict: http.StatusConflict, cred.Exhausted: http.StatusTooManyRequests, cred.Unavailable: http.StatusServiceUnavailable,
}

// statusError is an error whose status is not the one of its kind: a failure of the upstream, or
// something that is not offered.
type statusError struct {
	status int
	why    *cred.Error
}

func (e *statusError) Error() string { return e.why.Error() }
func (e *statusError) Unwrap() error { return e.why }

func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status
	}
	if s, ok := statuses[cred.KindOf(err)]; ok {
		return s
	}
	return http.StatusInternalServerError
}

func problemOf(err error, use cred.UseID) problem {
	status := statusOf(err)
	p := problem{
		Title: http.StatusText(status), Status: status, Detail: cred.PublicText(err),
		Rule: ruleOf(err), Reason: strings.ToUpper(cred.KindOf(err).String()),
	}
	if e, ok := errors.AsType[*cred.Error](err); ok {
		p.Claim = e.Claim
		if e.Reason != "" {
			p.Reason = e.Reason
		}
	}
	if use != "" {
		p.Instance = "urn:daypass:use:" + string(use)
	}
	p.Type = "urn:daypass:problem:" + strings.ReplaceAll(strings.ToLower(p.Reason), "_", "-")
	return p
}

// writeProblem answers with a problem document and returns its status.
func writeProblem(w http.ResponseWriter, err error, use cred.UseID) int {
	p := problemOf(err, use)
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if use != "" {
		h.Set(useHeader, string(use))
	}
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	challenge(h, err, p)
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
	return p.Status
}

// challenge adds what RFC 6750, section 3, wants, and RFC 9449 of what concerns proofs: no error code where no token was sent. The basic
// challenge makes git, curl and package managers send what they have.
func challenge(h http.Header, err error, p problem) {
	const realm = `Bearer realm="daypass"`
	switch {
	case challengeDPoP(h, err, p.Reason):
	case errors.Is(err, errNoToken):
		h["Www-Authenticate"] = []string{realm, `Basic realm="daypass", charset="UTF-8"`}
	case errors.Is(err, errTwoTokens), errors.Is(err, errBadBasic):
		h.Set("Www-Authenticate", realm+`, error="invalid_request"`)
	case p.Status == http.StatusUnauthorized:
		h["Www-Authenticate"] = []string{realm + `, error="invalid_token", error_description="` + p.Reason + `"`, `Basic realm="daypass", charset="UTF-8"`}
	case p.Status == http.StatusForbidden:
		h.Set("Www-Authenticate", realm+`, error="insufficient_scope"`)
	}
}
