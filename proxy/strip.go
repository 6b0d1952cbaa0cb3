package proxy

import (
	"net/http"
	"strings"
)

// set makes a set of canonical header names.
func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[http.CanonicalHeaderKey(n)] = true
	}
	return m
}

// hopByHop are the headers that concern one connection alone (RFC 9110, section 7.6.1).
var hopByHop = set("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings")

// notForwarded are the request headers that do not reach an upstream, in any spelling:
//   - credentials, of which the caller has none to give but the grant token and the proof that goes
//     with it, cookies included;
//   - what tells of the way here, which the caller could forge and which is none of the upstream's business;
//   - what makes some servers serve another URL than the one that is recorded;
//   - ranges, which could split a secret over two answers, and the coding of the answer, which is always
//     identity, since only plain bytes can be masked.
var notForwarded = set("Authorization", "X-Api-Key", "Dpop", nonceHeader, "Proxy-Authorization", "Cookie", "Cookie2",
	"Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip",
	"X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host",
	"Range", "If-Range", "Accept-Encoding", "Content-Length", "Host")

// notReturned are the answer's headers that do not reach the caller: cookies, which are credentials
// of the upstream's own that would work without the proxy, what would change how the caller treats
// the proxy's own address, and headers of the proxy's own.
var notReturned = set("Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Public-Key-Pins",
	"Clear-Site-Data", "Content-Length", useHeader, nonceHeader)

// requestHeader returns what of a caller's header reaches the upstream, without the credential.
func requestHeader(in http.Header, injected string) http.Header {
	named := connectionNames(in)
	out := make(http.Header, len(in)+2)
	for name, values := range in {
		if !stripped(name, injected) && !named[name] {
			out[name] = values
		}
	}
	if hasToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // else the transport adds its own
	}
	out["Accept-Encoding"] = []string{"identity"}
	return out
}

// stripped reports whether a header of a request stays here. Underscores count as hyphens, since
// many servers do not tell them apart.
func stripped(name, injected string) bool {
	name = folded(name)
	return hopByHop[name] || notForwarded[name] || strings.HasPrefix(name, "X-Forwarded") || name == folded(injected)
}

func folded(name string) string {
	if !strings.Contains(name, "_") {
		return name // canonical already
	}
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// connectionNames returns the headers that Connection names, which concern this connection alone.
func connectionNames(h http.Header) map[string]bool {
	values := h["Connection"]
	if len(values) == 0 {
		return nil
	}
	named := map[string]bool{}
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			named[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return named
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// answerHeader writes what of an upstream's header reaches the caller, masked.
func (s *Session) answerHeader(out, in http.Header) {
	named := connectionNames(in)
	dirty := s.masks.inHeader(in)
	for name, values := range in {
		if hopByHop[name] || notReturned[name] || named[name] {
			continue
		}
		if dirty {
			values = s.masks.each(values)
		}
		out[name] = values
	}
}

// inHeader reports whether a header may have any of the session's secrets in it. It looks once, and
// quickly, at the whole, since almost no header has.
func (m masks) inHeader(h http.Header) bool {
	var room [1024]byte // enough for most, without memory of its own
	all := room[:0]
	for _, values := range h {
		for _, v := range values {
			all = append(append(all, v...), '\n')
		}
	}
	return !m.known.Clean(all)
}

// each masks every value of a header.
func (m masks) each(values []string) []string {
	masked := make([]string, len(values))
	for i, v := range values {
		masked[i] = m.text(v)
	}
	return masked
}
