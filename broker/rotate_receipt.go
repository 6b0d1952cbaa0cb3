package broker

import (
	"fmt"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// receipt is the text that says what a rotation did. What people, tokens and sources chose is quoted, so
// that none of it looks like a line of ours.
func receipt(r cred.Rotation, g cred.Grant) string {
	var t strings.Builder
	t.WriteString(audit.ReceiptHead() + "\n")
	fmt.Fprintf(&t, "root %q\nid %s\nby %s\nreason %q\nasked %s\n", r.Root, r.ID, inReceipt(r.By), r.Reason, instant(r.CreatedAt))
	if r.Grant != "" {
		fmt.Fprintf(&t, "request %s sha256:%s\n", r.Grant, g.Digest)
	}
	for _, a := range g.Approvals {
		if a.Verdict.Approve {
			fmt.Fprintf(&t, "approved %s by %s\n", instant(a.At), inReceipt(a.By))
		}
	}
	fmt.Fprintf(&t, "old %q\nnew %q\n", r.Old, r.New)
	for _, past := range r.Past {
		fmt.Fprintf(&t, "step %s %s %s attempts=%d\n", past.Step, past.Outcome, instant(past.EndedAt), past.Attempts)
	}
	fmt.Fprintf(&t, "state %s %s\n", r.State(), instant(r.EndedAt))
	return t.String()
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func inReceipt(p cred.Principal) string {
	text := fmt.Sprintf("%q %q %q", p.Provider, p.Issuer, p.Subject)
	if p.Actor != nil {
		text += " actor " + inReceipt(*p.Actor)
	}
	return text
}
