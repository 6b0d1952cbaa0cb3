package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
)

// terms are on what a rule whose conditions hold gives what is asked.
type terms struct {
	params map[string]string
	until  time.Time // zero: as long as the grant lives
	onCall string    // the schedule by which nobody is asked; empty: none
}

// lack is what a request lacks under a rule whose conditions hold, and how to ask so that it does not.
type lack struct{ reason, text, ask string }

// terms returns the rule's terms for an input, or everything that it lacks.
func (o offer) terms(in *input) (t terms, lacks []lack) {
	for _, claim := range o.cautions(in.who.Principal) {
		lacks = append(lacks, lack{
			ReasonCautionNotNamed,
			fmt.Sprintf("claim %s is %s, which no condition of the rule names", claim, shown(in.who.Cautions[claim])), "",
		})
	}
	params, more := o.covers(in.want.Scopes, in.params)
	lacks = append(lacks, more...)
	t.params = params
	until, open := openUntil(o.windows, in.now)
	if !open {
		lacks = append(lacks, o.closed(in.now))
	}
	t.until = until
	if o.review != nil && strings.TrimSpace(in.want.Reason) == "" {
		lacks = append(lacks, lack{ReasonReasonRequired, "the rule is for emergencies and demands a reason", "send a reason with --reason"})
	}
	if len(o.bind) > 0 && !slices.Contains(o.bind, in.want.Binding) {
		lacks = append(lacks, o.unbound(in.want.Binding))
	}
	if o.onCall != nil {
		if end, ok := o.onCall.until(in.who.Principal, in.now); ok {
			t.onCall, t.until = o.onCall.name, earlier(t.until, end)
		}
	}
	return t, lacks
}

// earlier returns the earlier of two instants, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// cautions returns the claims that make a principal doubtful and that the rule does not name.
func (r *rule) cautions(who *cred.Principal) []string {
	if len(who.Cautions) == 0 {
		return nil
	}
	return slices.Concat(r.who, r.when).uncautioned(*who)
}

// covers holds scopes and parameters against the rule's parts: one of them must cover both. The
// lacks are those of the part that lacks least.
func (o offer) covers(scopes []string, sent map[string]string) (params map[string]string, lacks []lack) {
	for i, p := range o.parts {
		bounded, more := p.bounded(sent)
		if missing := p.missing(scopes); len(missing) > 0 {
			more = append([]lack{p.lacksScope(missing)}, more...)
		}
		if len(more) == 0 {
			return bounded, nil
		}
		if i == 0 || len(more) < len(lacks) {
			lacks = more
		}
	}
	return nil, lacks
}

// coversAll reports whether one of the rule's parts covers scopes and parameters.
func (o offer) coversAll(in *input) bool {
	_, lacks := o.covers(in.want.Scopes, in.params)
	return len(lacks) == 0
}

// missing returns the scopes that a part does not cover.
func (p part) missing(scopes []string) []string {
	var out []string
	for _, scope := range scopes {
		if !slices.ContainsFunc(p.scopes, func(g glob.Pattern) bool { return g.Match(scope) }) {
			out = append(out, scope)
		}
	}
	return out
}

// lacksScope says which scopes a part does not allow, and which it does.
func (p part) lacksScope(missing []string) lack {
	var allowed, literal []string
	for _, g := range p.scopes {
		allowed = append(allowed, strconv.Quote(string(g)))
		if g.Literal() {
			literal = append(literal, "--scope "+string(g))
		}
	}
	list, ask := "no scopes", "ask without scopes"
	if len(allowed) > 0 {
		list, ask = strings.Join(allowed, ", "), ""
	}
	if len(literal) > 0 && len(literal) <= 4 {
		ask = "ask with " + strings.Join(literal, " or ")
	}
	return lack{ReasonScopeNotAllowed, fmt.Sprintf("scope %s is not allowed (the rule allows %s)", shown(missing[0]), list), ask}
}

// closed says that it is not the rule's time, and when that is.
func (r *rule) closed(now time.Time) lack {
	text, ask := "the rule's time window is closed", ""
	if next, ok := nextOpening(r.windows, now); ok {
		zone := next.Location().String()
		text += fmt.Sprintf(" (it opens at %s, %s)", next.Format(time.RFC3339), zone)
		ask = "ask again then"
	}
	return lack{ReasonWindowClosed, text, ask}
}

// unbound says that a grant must be bound to a key.
func (r *rule) unbound(sent cred.Binding) lack {
	ways := map[cred.Binding]string{cred.BindDPoP: "a DPoP proof", cred.BindMTLS: "a TLS client certificate"}
	var possible []string
	for _, b := range r.bind {
		possible = append(possible, ways[b])
	}
	text := "the grant must be bound to a key of yours"
	if sent != "" {
		text = fmt.Sprintf("the grant must not be bound by %s", ways[sent])
	}
	return lack{ReasonBindingRequired, text, "ask with " + strings.Join(possible, " or ")}
}
