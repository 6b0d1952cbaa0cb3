package mask

import "strings"

// eventType is the type in the payload, else the name of the event.
func (p *payload) eventType(b *block) string {
	if p.kind != "" {
		return p.kind
	}
	return b.event
}

// endBy ends the texts that an event ends: all of them at the end of an answer, those of an item or
// block at its end, and a choice's where it has a finish_reason.
func (s *SSE) endBy(b *block, p *payload) {
	kind := p.eventType(b)
	switch kind {
	case "message_stop", "response.completed", "response.failed", "response.incomplete", "response.done", "error":
		s.endAll()
		return
	}
	if (strings.HasSuffix(kind, ".done") || strings.HasSuffix(kind, "_stop") || strings.HasSuffix(kind, "_done")) && p.scope != (scope{}) {
		s.end(func(k textKey) bool { return k.scope.within(p.scope) })
	}
	for _, choice := range p.ended {
		path := choice.path() + "/"
		s.end(func(k textKey) bool { return strings.HasPrefix(k.path, path) })
	}
}

// within reports whether nothing in a text's scope contradicts an event's.
func (s scope) within(event scope) bool {
	for i := range s {
		if s[i] != "" && event[i] != "" && s[i] != event[i] {
			return false
		}
	}
	return true
}

func (s *SSE) endAll() { s.end(func(textKey) bool { return true }) }

// end ends texts and forgets them. A text that goes on nevertheless is a new one.
func (s *SSE) end(which func(textKey) bool) {
	for key, t := range s.texts {
		if which(key) {
			t.finish()
			s.counts.add(t.engine.counts)
			delete(s.texts, key)
		}
	}
}
