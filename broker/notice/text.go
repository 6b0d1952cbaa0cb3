package notice

import (
	"strings"
	"time"
	"unicode"
)

// title is the first line of a notice, in plain text.
func (n Notice) title() string {
	subject := line(n.Target, 120)
	if subject == "" {
		subject = line(string(n.Grant), 120)
	}
	if t, ok := titles[n.Kind]; ok {
		return strings.TrimSuffix(t+": "+subject, ": ")
	}
	return strings.TrimSuffix(line(string(n.Kind), 60)+": "+subject, ": ")
}

// titles are looked up only.
var titles = map[Kind]string{
	RequestPending:   "Approval needed",
	RequestReminder:  "Still waiting for approval",
	RequestApproved:  "Request approved",
	RequestDenied:    "Request refused",
	RequestExpired:   "Request expired without a decision",
	BreakGlassUsed:   "Break-glass access was used",
	ReviewOverdue:    "A break-glass review is overdue",
	StandingProposed: "A standing approval is proposed",
	LeasesStray:      "A source has credentials that are not on record",
	LeasesMissing:    "A source has lost credentials",
	PolicyRefused:    "A changed policy was refused; the one before stays in force",
	RotationWaits:    "A rotation waits for a person",
	RotationStuck:    "A rotation does not get on",
	RotationFailed:   "A rotation has failed",
	RotationDone:     "A root was rotated",
	AlarmRaised:      "ALARM: somebody may have seen a credential",
}

// fact is one line of a notice: what it is, and its value in plain text.
type fact struct{ label, value string }

// facts are what a notice says beside its title, its text and its reason. Each value is one line.
func (n Notice) facts() []fact {
	actor := "Acting for them"
	switch n.Kind {
	case RequestApproved, RequestDenied, StandingProposed, PolicyRefused:
		actor = "By"
	}
	all := []fact{
		{"Requested by", line(n.Requester, 200)},
		{actor, line(n.Actor, 200)},
		{"Target", line(n.Target, 200)},
		{"Scopes", line(strings.Join(n.Scopes, ", "), 300)},
		{"Rule", line(n.Rule, 200)},
		{"Asked", line(strings.Join(n.Groups, ", "), 300)},
		{"Decide before", instant(n.Deadline)},
		{"ID", line(string(n.Grant), 100)},
	}
	var set []fact
	for _, f := range all {
		if f.value != "" {
			set = append(set, f)
		}
	}
	return set
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// link returns the console's page for a notice, "" without a console.
func (n Notice) link(console string) string {
	base := strings.TrimSuffix(console, "/")
	switch {
	case base == "" || n.Grant == "":
		return console
	case n.Kind == BreakGlassUsed, n.Kind == ReviewOverdue, n.Kind == AlarmRaised:
		return base + "/grants/" + pathSegment(string(n.Grant))
	}
	return base + "/requests/" + pathSegment(string(n.Grant))
}

// command is what a reader without a console types.
func (n Notice) command() string {
	switch {
	case n.Grant == "":
		return ""
	case n.Kind == BreakGlassUsed, n.Kind == ReviewOverdue, n.Kind == AlarmRaised:
		return "daypass grants show " + pathSegment(string(n.Grant))
	}
	return "daypass requests show " + pathSegment(string(n.Grant))
}

// pathSegment keeps of an ID what all IDs are made of.
func pathSegment(id string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, id)
}

// line returns text as one line of visible characters: what ends a line or turns the direction of
// writing could make a notice say something else than it does.
func line(s string, most int) string {
	return clip(strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case turnsDirection(r):
			return -1
		}
		return r
	}, s)), most)
}

// turnsDirection reports whether a character is a control of the Unicode bidirectional algorithm
// (UAX #9, section 2).
func turnsDirection(r rune) bool {
	return r == '\u061c' || r == '\u200e' || r == '\u200f' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// The most that a reader is shown of a reason.
const (
	maxReasonLines = 12
	maxReasonBytes = 1200
)

// reasonLines returns a reason as lines of visible characters, without empty ones.
func (n Notice) reasonLines() []string {
	var all []string
	for part := range strings.FieldsFuncSeq(clip(n.Reason, maxReasonBytes), func(r rune) bool { return r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' }) {
		if l := line(part, maxReasonBytes); l != "" {
			all = append(all, l)
		}
	}
	if len(all) > maxReasonLines {
		all = append(all[:maxReasonLines:maxReasonLines], "…")
	}
	return all
}
