package identity

import (
	"reflect"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// SameCaller reports whether two principals are the same caller for good: the same provider, issuer
// and subject, and the same value of each claim that the provider says never changes for a caller.
// A claim that both lack is the same. Principals of a provider that is not configured are never the
// same, because nobody knows what identifies them. Who acts for them is not compared.
func (v *Verifier) SameCaller(a, b cred.Principal) bool {
	src, known := v.issuers[a.Issuer]
	if !known || src.Name != a.Provider || !a.Same(b) {
		return false
	}
	for _, path := range src.Immutable {
		one, inA := path.in(a.Claims)
		other, inB := path.in(b.Claims)
		if inA != inB || !reflect.DeepEqual(one, other) {
			return false
		}
	}
	return true
}

// Path names a claim: the name of a top-level claim, then the members that lead into it. Claims'
// own names hold dots and slashes, so there is no way to write a path as one text.
type Path []string

// String returns the path as sentences show it.
func (p Path) String() string { return strings.Join(p, ".") }

// in returns the value at a path, and whether there is one.
func (p Path) in(claims map[string]any) (any, bool) {
	var value any = claims
	for _, name := range p {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, len(p) > 0
}
