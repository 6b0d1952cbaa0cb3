package policy

import (
	"strings"
	"time"
)

// times finds comparisons of now with an instant that has passed.
func (l *linter) times(s *subject) {
	s.condition.each(func(f fact, _ []fact) {
		if f.path != "now" || len(f.values) != 1 || !f.literal {
			return
		}
		at, err := time.Parse(time.RFC3339, f.values[0])
		if err != nil || at.After(l.Now) {
			return
		}
		op, not := strings.CutPrefix(f.op, "not ")
		later := op == ">" || op == ">="
		if op == "==" || later == not { // it can't hold any more
			l.report(f.place, Flaw{
				ID: "time-passed", Severity: SeverityWarning, Subject: s.String(),
				Message: f.text + " can't be true any more: that was " + ago(l.Now.Sub(at)) + " ago",
				Why:     "what stands beside it has no effect since then",
				Rewrite: "remove it, or set a new date",
			})
			return
		}
		l.report(f.place, Flaw{
			ID: "time-passed", Severity: SeverityInfo, Subject: s.String(),
			Message: f.text + " is always true: that was " + ago(l.Now.Sub(at)) + " ago",
			Why:     "it holds nobody back",
			Rewrite: "remove it",
		})
	})
}

func ago(d time.Duration) string {
	if days := int(d.Hours() / 24); days > 1 {
		return plural(days, "day")
	}
	return span(d.Round(time.Minute))
}
