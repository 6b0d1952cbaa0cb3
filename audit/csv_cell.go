package audit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// of returns the cell of a part of the event; it is empty where the event has no such part.
func of[T any](part func(Event) *T, cell func(T) string) func(uint64, Event) string {
	return func(_ uint64, e Event) string {
		p := part(e)
		if p == nil {
			return ""
		}
		return cell(*p)
	}
}

func ofPrincipal(cell func(Principal) string) func(uint64, Event) string {
	return of(func(e Event) *Principal { return e.Principal }, cell)
}

func requestOf(e Event) *Request   { return e.Request }
func decisionOf(e Event) *Decision { return e.Decision }
func leaseOf(e Event) *Lease       { return e.Lease }
func useOf(e Event) *Use           { return e.Use }
func rotationOf(e Event) *Rotation { return e.Rotation }
func errorOf(e Event) *Error       { return e.Error }
func originOf(e Event) *Origin     { return e.Origin }

func actorOf(p Principal) Principal {
	if p.Actor == nil {
		return Principal{}
	}
	return *p.Actor
}

// intCell leaves out what the entry leaves out.
func intCell(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func timeCell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func approvalsCell(approvals []Approval) string {
	var all []string
	for _, a := range approvals {
		verdict := "refused"
		if a.Approve {
			verdict = "approved"
		}
		text := verdict + " by " + a.By.Subject
		if len(a.Groups) > 0 {
			text += " (" + strings.Join(a.Groups, ", ") + ")"
		}
		text += " at " + a.At.Format(time.RFC3339Nano)
		if a.Standing != "" {
			text += ", standing " + a.Standing
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func cautionsCell(cautions map[string]string) string {
	var all []string
	for _, claim := range slices.Sorted(maps.Keys(cautions)) {
		all = append(all, claim+"="+cautions[claim])
	}
	return strings.Join(all, "; ")
}

func demandCell(d *cred.Demand) string {
	if d == nil {
		return ""
	}
	list := func(all []cred.Quorum, join string) string {
		var parts []string
		for _, q := range all {
			parts = append(parts, fmt.Sprintf("%d of %s", q.Count, q.Group))
		}
		return strings.Join(parts, join)
	}
	parts := []string{list(d.AllOf, " and "), list(d.AnyOf, " or ")}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", and ")
}

func maskedCell(masked []Masked) string {
	var all []string
	for _, m := range masked {
		all = append(all, fmt.Sprintf("%s: %d", m.Detector, m.Count))
	}
	return strings.Join(all, "; ")
}

// detailCell writes details as they stand in the entry, which has shown that they can be written.
func detailCell(detail map[string]any) string {
	if len(detail) == 0 {
		return ""
	}
	b, err := encode(detail)
	if err != nil {
		return ""
	}
	return string(b)
}
