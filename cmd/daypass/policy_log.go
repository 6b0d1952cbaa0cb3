package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/daypass-io/daypass/audit"
)

// maxExportLine is more than any line of an export has: an entry, and its proof.
const maxExportLine = 2 * audit.MaxEntry

var (
	exportHeader  = []byte(`{"daypass_audit_export":1}`)
	exportTrailer = []byte(`{"entries":`)
	entryMember   = []byte(`"entry":{"seq":`)
)

// readExport calls each with the canonical bytes of every entry of a jsonl export, valid until the
// next call. It fails on a file that is cut off; whether the file is what the log held is for 'daypass
// audit verify' to say.
func readExport(r io.Reader, each func(canonical []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxExportLine)
	if !lines.Scan() || !bytes.Equal(lines.Bytes(), exportHeader) {
		return errors.New("this is not an export of the audit log in the format jsonl")
	}
	for n := 0; lines.Scan(); {
		if bytes.HasPrefix(lines.Bytes(), exportTrailer) {
			return checkTrailer(lines.Bytes(), n)
		}
		canonical, ok := entryOf(lines.Bytes())
		n++
		if !ok {
			return fmt.Errorf("line %d of the export is no entry", n+1)
		}
		if err := each(canonical); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the export can't be read to its end: %w", err)
	}
	return errors.New("the export ends without its trailer; it was cut off")
}

func checkTrailer(line []byte, entries int) error {
	var t struct{ Entries int }
	if err := json.Unmarshal(line, &t); err != nil || t.Entries != entries {
		return fmt.Errorf("the export has %d entries, and its trailer counts another number", entries)
	}
	return nil
}

// entryOf cuts an entry out of its line. What stands before it is base64.
func entryOf(line []byte) ([]byte, bool) {
	at := bytes.Index(line, entryMember)
	if at < 0 || line[len(line)-1] != '}' {
		return nil, false
	}
	return line[at+len(`"entry":`) : len(line)-1], true
}

// isExchange reports whether an entry tells of an exchange, from how every canonical form begins.
func isExchange(canonical []byte) bool {
	_, rest, _ := bytes.Cut(canonical, []byte(","))
	return bytes.HasPrefix(rest, []byte(`"kind":"exchange.`))
}

// entryReader reads entries that stand one after another. A member that this program does not know may
// be one that decides, and is an error.
type entryReader struct{ dec *json.Decoder }

func newEntryReader(entries []byte) entryReader {
	dec := json.NewDecoder(bytes.NewReader(entries))
	dec.DisallowUnknownFields()
	return entryReader{dec}
}

// next returns an entry, and io.EOF behind the last.
func (r entryReader) next() (seq uint64, e audit.Event, err error) {
	var entry struct {
		Seq uint64 `json:"seq"`
		audit.Event
	}
	if err := r.dec.Decode(&entry); errors.Is(err, io.EOF) {
		return 0, audit.Event{}, err
	} else if err != nil {
		return 0, audit.Event{}, fmt.Errorf("an entry of the log can't be read by this version of daypass: %w", err)
	}
	return entry.Seq, entry.Event, nil
}
