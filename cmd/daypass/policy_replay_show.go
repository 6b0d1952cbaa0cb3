package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
)

// replayOutput shows what a replay finds, while it goes on.
type replayOutput interface {
	change(c change) error
	end(t tally) error
}

// differences are the words for what changes, in the order in which they are told.
var differences = []struct {
	kind  policy.Difference
	would string
}{
	{policy.NewlyRefused, "would refuse"},
	{policy.NewlyAllowed, "would newly allow"},
	{policy.NewlyAsked, "would newly ask approval for"},
	{policy.NoLongerAsked, "would no longer ask approval for"},
	{policy.AskedOtherwise, "would ask others for"},
	{policy.OtherRule, "would decide alike by another rule"},
}

// replayText writes lines.
type replayText struct{ w io.Writer }

func (o replayText) change(c change) error {
	r := c.Recorded
	cells := []string{wordsFor(c.Kind) + ":", "entry " + strconv.FormatUint(c.Seq, 10), r.At.UTC().Format(time.RFC3339)}
	if c.Grant != "" {
		cells = append(cells, string(c.Grant))
	}
	cells = append(cells, personOf(r.Who), targetOf(r.Want))
	cli.Row(o.w, strings.Join(cells, "  "))
	cli.Row(o.w, "    was "+answered(r.Outcome(), r.Rule, r.Reason, r.Demand.InWords(), r.Exempt))
	d := c.Decision
	now := "    now " + answered(d.Outcome(), d.Private.Rule, d.Private.Reason, d.Demand.InWords(), d.Exempt)
	if d.Private.Condition != "" {
		now += ": " + d.Private.Condition
	}
	cli.Row(o.w, now)
	return nil
}

func wordsFor(kind policy.Difference) string {
	for _, d := range differences {
		if d.kind == kind {
			return d.would
		}
	}
	return string(kind)
}

func targetOf(want cred.Request) string {
	text := want.Target
	if len(want.Scopes) > 0 {
		text += " [" + strings.Join(want.Scopes, " ") + "]"
	}
	return text
}

// answered says what was decided and by which rule.
func answered(outcome policy.Outcome, rule, reason, demand, exempt string) string {
	text := string(outcome)
	if outcome == policy.OutcomePending {
		text += ", asking " + demand + ","
	}
	if exempt != "" {
		text += " (" + exempt + ")"
	}
	if rule != "" {
		text += " by rule " + strconv.Quote(rule)
		if outcome == policy.OutcomeDenied {
			text = "denied, nearest rule " + strconv.Quote(rule)
		}
	}
	if reason != "" {
		text += ", " + reason
	}
	return text
}

func (o replayText) end(t tally) error {
	_, err := fmt.Fprintln(o.w, summary(t))
	return err
}

// summary says in a sentence what a replay found.
func summary(t tally) string {
	all := counted(t.Decisions, "decision")
	var parts []string
	for _, d := range differences {
		if n := t.By[d.kind]; n > 0 && d.kind != policy.OtherRule {
			parts = append(parts, d.would+" "+thousands(n))
		}
	}
	text := "no change: " + all + " would stand"
	if len(parts) > 0 {
		parts[0] += " of " + thousands(t.Decisions)
		text = strings.Join(parts, ", ")
	}
	if n := t.By[policy.OtherRule]; n > 0 {
		text += fmt.Sprintf("; %s would be another rule's", counted(n, "decision"))
	}
	if t.Apart > 0 {
		text += fmt.Sprintf("; left out: %s that no rule decided", counted(t.Apart, "refusal"))
	}
	return text
}

// thousands writes a number with commas: 9,312.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// replayJSON writes one object whose list of changes comes first, a change a line.
type replayJSON struct {
	w     io.Writer
	lines int
}

// changeJSON is a change as JSON.
type changeJSON struct {
	Change    policy.Difference `json:"change"`
	Entry     uint64            `json:"entry"`
	Time      time.Time         `json:"time"`
	Grant     cred.GrantID      `json:"grant,omitempty"`
	Principal cred.Principal    `json:"principal"`
	Request   cred.Request      `json:"request"`
	Was       answerJSON        `json:"was"`
	Now       answerJSON        `json:"now"`
}

// answerJSON is a decision as JSON.
type answerJSON struct {
	Decision  policy.Outcome `json:"decision"`
	Rule      string         `json:"rule,omitempty"`
	Reason    string         `json:"reason,omitempty"`
	Condition string         `json:"condition,omitempty"`
	Demand    *cred.Demand   `json:"demand,omitempty"`
	Exempt    string         `json:"exempt,omitempty"`
}

func (o *replayJSON) change(c change) error {
	r, d := c.Recorded, c.Decision
	line, err := json.Marshal(changeJSON{
		Change: c.Kind, Entry: c.Seq, Time: r.At.UTC(), Grant: c.Grant, Principal: r.Who, Request: r.Want,
		Was: answerJSON{Decision: r.Outcome(), Rule: r.Rule, Reason: r.Reason, Demand: r.Demand, Exempt: r.Exempt},
		Now: answerJSON{d.Outcome(), d.Private.Rule, d.Private.Reason, d.Private.Condition, d.Demand, d.Exempt},
	})
	if err != nil {
		return err
	}
	before := ",\n    "
	if o.lines == 0 {
		before = "{\n  \"changes\": [\n    "
	}
	o.lines++
	_, err = fmt.Fprintf(o.w, "%s%s", before, line)
	return err
}

func (o *replayJSON) end(t tally) error {
	if o.lines == 0 {
		fmt.Fprint(o.w, "{\n  \"changes\": [")
	} else {
		fmt.Fprint(o.w, "\n  ")
	}
	counts := fmt.Sprintf("],\n  \"decisions\": %d,\n  \"not_decided_by_rules\": %d", t.Decisions, t.Apart)
	for _, d := range differences {
		counts += fmt.Sprintf(",\n  %q: %d", d.kind, t.By[d.kind])
	}
	_, err := fmt.Fprintln(o.w, counts+"\n}")
	return err
}
