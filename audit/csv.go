package audit

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// csvForm writes RFC 4180 with lines that end in LF. The trailer's signature has no place in it.
type csvForm struct {
	columns []csvColumn
	rows    *csv.Writer
	line    *bytes.Buffer // where rows writes: its Flush must not reach the file
}

func newCSVForm() csvForm {
	line := new(bytes.Buffer)
	return csvForm{csvColumns(), csv.NewWriter(line), line}
}

// csvColumn is one column: its name, and its cell for an entry.
type csvColumn struct {
	name string
	cell func(seq uint64, e Event) string
}

func (f csvForm) header(w *bufio.Writer) error {
	var row []string
	for _, c := range f.columns {
		row = append(row, c.name)
	}
	return f.write(w, row)
}

func (f csvForm) entry(w *bufio.Writer, x Exported) error {
	e, err := parseExported(x)
	if err != nil {
		return err
	}
	row := make([]string, 0, len(f.columns))
	for _, c := range f.columns {
		row = append(row, safeCell(c.cell(x.Seq, e)))
	}
	return f.write(w, row)
}

func (csvForm) trailer(*bufio.Writer, Trailer) error { return nil }

func (f csvForm) write(w *bufio.Writer, row []string) error {
	f.line.Reset()
	if err := f.rows.Write(row); err != nil {
		return err
	}
	f.rows.Flush()
	_, err := w.Write(f.line.Bytes())
	return err
}

// parseExported decodes an entry for a format that does not carry its canonical bytes alone.
func parseExported(x Exported) (Event, error) {
	seq, e, err := Parse(x.Canonical)
	if err == nil && seq != x.Seq {
		err = fmt.Errorf("it says that it is entry %d", seq)
	}
	if err != nil {
		return e, badExport(fmt.Sprintf("entry %d can't be exported: its bytes are not the canonical form of an entry with this number", x.Seq), err)
	}
	return e, nil
}

// safeCell keeps a spreadsheet from taking text for a formula (OWASP, "CSV Injection"): a cell whose
// first visible character could begin one gets an apostrophe before it, and control characters and line
// separators, which some readers take for the end of a cell, become spaces.
func safeCell(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
	visible := strings.TrimLeftFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) })
	first, size := utf8.DecodeRuneInString(visible)
	if size > 0 && strings.ContainsRune("=+-@\uFF1D\uFF0B\uFF0D\uFF20", first) { // the last four are full-width forms
		return "'" + text
	}
	return text
}

// csvColumns returns the columns in their order. New ones are added at the end.
func csvColumns() []csvColumn {
	return []csvColumn{
		{"seq", func(seq uint64, _ Event) string { return strconv.FormatUint(seq, 10) }},
		{"time", func(_ uint64, e Event) string { return e.Time.Format(time.RFC3339Nano) }},
		{"kind", func(_ uint64, e Event) string { return string(e.Kind) }},
		{"grant", func(_ uint64, e Event) string { return string(e.Grant) }},
		{"provider", ofPrincipal(func(p Principal) string { return p.Provider })},
		{"issuer", ofPrincipal(func(p Principal) string { return p.Issuer })},
		{"subject", ofPrincipal(func(p Principal) string { return p.Subject })},
		{"name", ofPrincipal(func(p Principal) string { return p.Name })},
		{"principal_kind", ofPrincipal(func(p Principal) string { return string(p.Kind) })},
		{"actor", ofPrincipal(func(p Principal) string { return actorOf(p).Subject })},
		{"target", of(requestOf, func(r Request) string { return r.Target })},
		{"scopes", of(requestOf, func(r Request) string { return strings.Join(r.Scopes, " ") })},
		{"reason", of(requestOf, func(r Request) string { return r.Reason })},
		{"request_digest", of(requestOf, func(r Request) string { return r.Digest })},
		{"allowed", of(decisionOf, func(d Decision) string { return strconv.FormatBool(d.Allowed) })},
		{"rule", of(decisionOf, func(d Decision) string { return d.Rule })},
		{"policy_hash", of(decisionOf, func(d Decision) string { return d.PolicyHash })},
		{"decision_reason", of(decisionOf, func(d Decision) string { return d.Reason })},
		{"decision_condition", of(decisionOf, func(d Decision) string { return d.Condition })},
		{"approvals", func(_ uint64, e Event) string { return approvalsCell(e.Approvals) }},
		{"lease", of(leaseOf, func(l Lease) string { return string(l.ID) })},
		{"lease_redeemer", of(leaseOf, func(l Lease) string { return l.Redeemer })},
		{"lease_issuer", of(leaseOf, func(l Lease) string { return l.Issuer })},
		{"lease_state", of(leaseOf, func(l Lease) string { return l.State })},
		{"lease_not_after", of(leaseOf, func(l Lease) string { return timeCell(l.NotAfter) })},
		{"secret_fingerprint", of(leaseOf, func(l Lease) string { return l.SecretFingerprint })},
		{"use", of(useOf, func(u Use) string { return string(u.ID) })},
		{"protocol", of(useOf, func(u Use) string { return u.Protocol })},
		{"method", of(useOf, func(u Use) string { return u.Method })},
		{"host", of(useOf, func(u Use) string { return u.Host })},
		{"path", of(useOf, func(u Use) string { return u.Path })},
		{"status", of(useOf, func(u Use) string { return intCell(int64(u.Status)) })},
		{"bytes_in", of(useOf, func(u Use) string { return intCell(u.BytesIn) })},
		{"bytes_out", of(useOf, func(u Use) string { return intCell(u.BytesOut) })},
		{"duration_ms", of(useOf, func(u Use) string { return intCell(u.DurationMS) })},
		{"masked", of(useOf, func(u Use) string { return maskedCell(u.Masked) })},
		{"use_rule", of(useOf, func(u Use) string { return u.Rule })},
		{"ended", of(useOf, func(u Use) string { return u.Ended })},
		{"rotation", of(rotationOf, func(r Rotation) string { return r.ID })},
		{"rotation_issuer", of(rotationOf, func(r Rotation) string { return r.Issuer })},
		{"rotation_step", of(rotationOf, func(r Rotation) string { return r.Step })},
		{"error_kind", of(errorOf, func(e Error) string { return e.Kind })},
		{"error_reason", of(errorOf, func(e Error) string { return e.Reason })},
		{"error", of(errorOf, func(e Error) string { return e.Public })},
		{"peer", func(_ uint64, e Event) string { return e.Peer }},
		{"origin_log", of(originOf, func(o Origin) string { return o.Log })},
		{"origin_seq", of(originOf, func(o Origin) string { return strconv.FormatUint(o.Seq, 10) })},
		{"detail", func(_ uint64, e Event) string { return detailCell(e.Detail) }},
		{"cautions", ofPrincipal(func(p Principal) string { return cautionsCell(p.Cautions) })},
		{"binding", of(requestOf, func(r Request) string { return r.Binding })},
		{"demand", of(decisionOf, func(d Decision) string { return demandCell(d.Demand) })},
		{"exempt", of(decisionOf, func(d Decision) string { return d.Exempt })},
	}
}
