package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// exchange is one request and its answer.
type exchange struct {
	h  *HTTP
	w  http.ResponseWriter
	r  *http.Request
	op Operation

	session *Session
	use     *Use
	request *requestBody // nil for a request without a body
	answer  *answerWriter
	status  int
	nonce   string // for the caller's next proof; empty: the one that it has is still good

	alarm *time.Timer // aborts the use when nothing moves

	mu        sync.Mutex // owns all below; the alarm and the session's end come from elsewhere
	committed bool       // the answer's header is on its way
	severed   bool       // must not go on
	over      bool       // the handler is returning: the connection is no longer ours
}

func newExchange(h *HTTP, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{h: h, w: w, r: r, answer: &answerWriter{w: w}}
	x.op = Operation{
		ID: cred.NewUseID(h.p.cfg.Now()), Protocol: "http", Method: r.Method, Path: r.URL.EscapedPath(),
		Peer: r.RemoteAddr, Cut: x.sever,
	}
	return x
}

// run carries the exchange out and reports whether its answer broke off.
func (x *exchange) run() (broken bool) {
	out, err := x.prepare()
	if err != nil {
		x.refuse(err)
		return false
	}
	if x.use, err = x.session.Begin(x.r.Context(), x.op); err != nil {
		writeProblem(x.w, err, x.op.ID)
		return false
	}
	ended := false
	defer func() { // also if the handler panics
		if !ended {
			x.use.End(Outcome{Ended: EndedUpstreamError})
		}
	}()
	x.alarm = time.AfterFunc(x.h.o.IdleTimeout, x.stalled)
	err = x.forward(out)
	o := x.outcome(err)
	x.release()
	if broken = err != nil && x.isCommitted(); err != nil && !broken {
		o.Status = writeProblem(x.w, x.explained(err), x.op.ID)
	}
	x.use.End(o)
	ended = true
	return broken
}

// prepare does all that can be refused without anything being forwarded.
func (x *exchange) prepare() (*http.Request, error) {
	if err := refusedKind(x.r); err != nil {
		return nil, err
	}
	sent, err := grantToken(x.r.Header)
	if err != nil {
		return nil, err
	}
	target, rest, err := splitPath(x.r.URL.EscapedPath())
	if err != nil {
		return nil, err
	}
	if x.session, err = x.h.p.OpenBound(x.r.Context(), sent.token, target, x.possession(sent)); err != nil {
		return nil, err
	}
	up := x.session.upstream
	if up == nil {
		return nil, &openError{x.session.key.grant, target, errNotHTTP}
	}
	u, err := up.urlOf(rest, x.r.URL.RawQuery)
	if err != nil {
		return nil, &openError{x.session.key.grant, target, err}
	}
	x.op.Host, x.op.Path = u.Host, u.EscapedPath()
	return x.upstreamRequest(u), nil
}

var (
	errNotHTTP = refusal(cred.Invalid, "target_not_http", "this target is not spent over HTTP")
	errConnect = &statusError{http.StatusNotImplemented, refusal(cred.Invalid, "connect",
		"this proxy does not tunnel; use it as a base URL: http://PROXY/TARGET/…")}
	errUpgrade = &statusError{http.StatusNotImplemented, refusal(cred.Invalid, "upgrade",
		"this proxy does not switch protocols (WebSocket), since it could not mask what passes; use plain HTTP")}
	errTrace    = refusal(cred.Invalid, "trace", "TRACE is refused: the upstream would send the credential back")
	errForm     = refusal(cred.Invalid, "request_form", "this is no forward proxy; use it as a base URL: http://PROXY/TARGET/…")
	errOverride = refusal(cred.Invalid, "method_override",
		"a header that changes the method is refused, since the record would be wrong; send the method itself")
)

// refusedKind refuses the kinds of request that can't be proxied.
func refusedKind(r *http.Request) error {
	switch {
	case r.Method == http.MethodConnect:
		return errConnect
	case r.Header["Upgrade"] != nil || hasToken(r.Header["Connection"], "upgrade"):
		return errUpgrade
	case r.Method == http.MethodTrace:
		return errTrace
	case r.URL.Host != "" || r.URL.Opaque != "" || !strings.HasPrefix(r.URL.Path, "/"):
		return errForm
	}
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		if r.Header[name] != nil {
			return errOverride
		}
	}
	return nil
}

// upstreamRequest makes the request that is forwarded.
func (x *exchange) upstreamRequest(u *url.URL) *http.Request {
	up := x.session.upstream
	out := &http.Request{
		Method: x.r.Method, URL: u, Header: requestHeader(x.r.Header, up.header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: x.r.ContentLength,
	}
	up.setHeader(out.Header)
	if x.r.ContentLength != 0 {
		x.request = &requestBody{x: x, from: x.r.Body, in: x.r, out: out}
		out.Body, out.Trailer = x.request, x.request.trailers(up.header)
	}
	return out
}

func (x *exchange) refuse(err error) { writeProblem(x.w, err, x.h.p.Refuse(x.op, err)) }

// forward sends the request and returns the answer. An error after the answer has begun means that
// it must be broken off.
func (x *exchange) forward(out *http.Request) error {
	if x.request != nil && x.r.ProtoMajor == 1 {
		_ = http.NewResponseController(x.w).EnableFullDuplex() // an upstream may answer before it has read all
	}
	res, err := x.roundTrip(out)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	x.moved()
	return x.reply(res)
}

// sever stops the exchange where it blocks: reading the caller's body, or writing the answer. The
// use's context has ended already, which stops what is done with the upstream.
func (x *exchange) sever() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.severed = true
	if x.over {
		return
	}
	past := time.Unix(1, 0)
	c := http.NewResponseController(x.w)
	if x.request != nil && !x.request.finished() {
		_ = c.SetReadDeadline(past)
	}
	if x.committed {
		_ = c.SetWriteDeadline(past)
	}
}

// stalled is called when nothing has moved for too long.
func (x *exchange) stalled() {
	x.use.Abort(errStalled)
	x.sever()
}

// moved tells that a byte has moved.
func (x *exchange) moved() { x.alarm.Reset(x.h.o.IdleTimeout) }

// awaiting tells that the request is complete and the upstream's turn has come.
func (x *exchange) awaiting() { x.alarm.Reset(x.h.o.HeaderTimeout) }

// commit tells that the answer's header is about to be sent. From then on the answer can only be
// completed or broken off.
func (x *exchange) commit(status int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.severed {
		return context.Cause(x.use.Context())
	}
	x.committed, x.status = true, status
	return nil
}

func (x *exchange) isCommitted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.committed
}

// release ends what could still reach for the connection, and frees a reader of the caller's body
// that outlives the answer.
func (x *exchange) release() {
	x.alarm.Stop()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	if x.request != nil && !x.request.finished() {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Unix(1, 0))
	}
}

var errStalled error = &statusError{http.StatusGatewayTimeout, refusal(cred.Unavailable, "upstream_silent",
	"nothing came from the upstream, or from you, for too long, so the request was broken off")}

var errUpstream = &statusError{http.StatusBadGateway, refusal(cred.Unavailable, "upstream_failed",
	"the upstream did not answer, or broke its answer off; the request may have reached it")}

var errUpstreamAddress = &statusError{http.StatusBadGateway, refusal(cred.Unavailable, "upstream_address",
	"the upstream's name leads to an address that this target may not have, so nothing was forwarded; tell who runs the broker")}

// explained returns what the caller is told of an exchange that failed before its answer began.
func (x *exchange) explained(err error) error {
	if cut := x.use.Err(); cut != nil {
		return cut
	}
	if cause := context.Cause(x.use.Context()); errors.Is(cause, errStalled) {
		return errStalled
	}
	if e, ok := errors.AsType[*statusError](err); ok {
		return e
	}
	if errors.Is(err, errAddress) {
		return errUpstreamAddress
	}
	if e, ok := errors.AsType[*cred.Error](err); ok { // it can't be masked
		return &statusError{http.StatusBadGateway, e}
	}
	return errUpstream
}

// outcome says how the exchange ended.
func (x *exchange) outcome(err error) Outcome {
	o := Outcome{Status: x.status, BytesOut: x.answer.n, Ended: EndedComplete}
	if x.request != nil {
		o.BytesIn = x.request.n.Load()
	}
	switch {
	case err == nil:
	case x.use.Err() != nil:
		o.Ended, o.Err = endedBy(x.use.Err()), x.use.Err()
	case errors.Is(context.Cause(x.use.Context()), errStalled):
		o.Ended, o.Err = EndedUpstreamError, errStalled
	case x.answer.err != nil || x.r.Context().Err() != nil || x.request != nil && x.request.failed.Load():
		o.Ended = EndedClientGone
	default:
		o.Ended, o.Err = EndedUpstreamError, x.explained(err)
	}
	return o
}
