package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// Exported is one entry as it leaves the log.
type Exported struct {
	Seq       uint64
	Canonical []byte
	Proof     []tlog.Hash // RFC 6962 inclusion proof against the trailer's checkpoint; filtered exports only
}

// Trailer ends an export.
type Trailer struct {
	Note        []byte // the signed checkpoint that covers every exported entry
	VerifierKey string // the log's public key, see Signer.VerifierKey
	// HandOvers are all that happened up to the checkpoint, in order: they lead from the log's first key
	// to VerifierKey.
	HandOvers []HandOver
}

// Format is a form in which entries leave the log.
type Format string

// The formats. JSONL alone is evidence: it holds the canonical bytes and verifies offline, see Verify.
// The others are for people and for SIEMs.
const (
	FormatJSONL Format = "jsonl" // a header, a JSON object for each entry, a trailer; one a line
	FormatCSV   Format = "csv"   // RFC 4180 with a line of column names, safe to open in a spreadsheet
	FormatOCSF  Format = "ocsf"  // an OCSF 1.5.0 event for each entry, one a line
)

// Formats are all the formats.
var Formats = []Format{FormatJSONL, FormatCSV, FormatOCSF}

// Exporter writes entries in one format. It is for one goroutine. After an error it writes nothing more
// and returns that error again.
type Exporter struct {
	out  *bufio.Writer
	form form
	err  error
}

// form is what differs between the formats.
type form interface {
	header(w *bufio.Writer) error
	entry(w *bufio.Writer, x Exported) error
	trailer(w *bufio.Writer, t Trailer) error
}

// NewExporter returns an exporter that writes to w. An unknown format is an Invalid error.
func NewExporter(w io.Writer, f Format) (*Exporter, error) {
	x := &Exporter{out: bufio.NewWriterSize(w, 64<<10)}
	switch f {
	case FormatJSONL:
		x.form = &jsonlForm{}
	case FormatCSV:
		x.form = newCSVForm()
	case FormatOCSF:
		x.form = ocsfForm{}
	default:
		return nil, badExport(fmt.Sprintf("%q is no export format; there are jsonl, csv and ocsf", string(f)), nil)
	}
	x.err = x.form.header(x.out)
	return x, x.err
}

// Write adds an entry. Entries come in ascending order. In JSONL either all of them carry a proof, or
// none does and they are the whole log from entry 0. An entry that does not fit is an Invalid error;
// what w returns is returned as Unavailable.
func (x *Exporter) Write(e Exported) error {
	if x.err == nil {
		x.err = writing(x.form.entry(x.out, e))
	}
	return x.err
}

// Close writes what ends the export and flushes. In JSONL the checkpoint must verify with the key and
// cover the entries that were written, else the error is Invalid. It does not close w.
func (x *Exporter) Close(t Trailer) error {
	if x.err == nil {
		x.err = writing(x.form.trailer(x.out, t))
	}
	if x.err != nil {
		return x.err
	}
	if x.err = writing(x.out.Flush()); x.err != nil {
		return x.err
	}
	x.err = badExport("the export is closed", nil)
	return nil
}

// writing makes an error of the writer below one of ours.
func writing(err error) error {
	if err == nil || cred.KindOf(err) == cred.Invalid {
		return err
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "audit.export", Reason: "AUDIT_EXPORT_WRITE",
		Public: "the export could not be written to its end; discard it and try again", Err: err,
	}
}

func badExport(public string, cause error) *cred.Error {
	return &cred.Error{Kind: cred.Invalid, Op: "audit.export", Reason: "AUDIT_EXPORT_INVALID", Public: public, Err: cause}
}

// encode writes JSON without the escapes for HTML and without a line feed at its end.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(1024)
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
