package proxy

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// identified returns the operation with an ID and with texts that a record can hold.
func (op Operation) identified(now time.Time) Operation {
	if op.ID == "" {
		op.ID = cred.NewUseID(now)
	}
	op.Method, op.Host, op.Path, op.Peer = short(op.Method), short(op.Host), bounded(op.Path, maxPathText), short(op.Peer)
	return op
}

// event starts a record of an operation by somebody not yet known.
func (op Operation) event(kind audit.Kind, now time.Time, proxy string) audit.Event {
	return audit.Event{
		Kind: kind, Time: now.UTC(), Peer: op.Peer,
		Use: &audit.Use{ID: op.ID, Proxy: proxy, Protocol: op.Protocol, Method: op.Method, Host: op.Host, Path: op.Path},
	}
}

// event starts a record of an operation under the session's grant.
func (s *Session) event(op Operation, kind audit.Kind, now time.Time) audit.Event {
	e := op.event(kind, now, s.p.cfg.Name)
	e.Grant, e.Principal, e.Detail = s.key.grant, s.holder, s.detail
	return e
}

// refused records that an operation of this session was refused.
func (s *Session) refused(op Operation, err error) {
	s.p.recordRefusal(s.refusal(op, err), true)
}

func (s *Session) refusal(op Operation, err error) audit.Event {
	e := s.event(op, audit.UseRefused, s.p.cfg.Now())
	e.Error, e.Use.Rule = audit.ErrorOf(err), ruleOf(err)
	return e
}

func (u *Use) endEvent(o Outcome) audit.Event {
	now := u.s.p.cfg.Now()
	e := u.s.event(u.op, audit.UseEnd, now)
	e.Use.Status, e.Use.BytesIn, e.Use.BytesOut, e.Use.Ended = o.Status, o.BytesIn, o.BytesOut, o.Ended
	e.Use.DurationMS = now.Sub(u.began).Milliseconds()
	for _, m := range u.streams {
		for _, c := range m.Counts() {
			e.Use.Masked = append(e.Use.Masked, audit.Masked{Detector: c.Detector, Count: c.N})
		}
	}
	if o.Err != nil {
		e.Error, e.Use.Rule = audit.ErrorOf(o.Err), ruleOf(o.Err)
	}
	return e
}

// Bounds on texts of a record, in bytes. Together they keep every record under the log's limit of
// 65535 bytes even if each byte is escaped to six.
const (
	maxPathText = 1024
	maxText     = 512
)

func short(s string) string { return bounded(s, maxText) }

// bounded returns s as a record may hold it: valid UTF-8 of at most n bytes and a mark of the cut.
func bounded(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
