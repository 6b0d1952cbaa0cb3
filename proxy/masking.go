package proxy

import (
	"slices"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/proxy/mask"
)

// masks is what a session masks with, compiled once.
type masks struct {
	answers *mask.Masker // the target's detectors and the session's secrets
	known   *mask.Masker // the secrets alone, for headers and paths
}

// newMasks compiles a session's masks. What it masks besides the credential's fields is the
// credential in the form in which it was injected.
func newMasks(settings cred.MaskSettings, c cred.Credential, up *upstream) (masks, error) {
	detectors, err := mask.Compile(settings.Detectors)
	if err != nil {
		return masks{}, because(refusal(cred.Unavailable, "target_unusable",
			"this target names a detector that this proxy does not know, so its answers can't be masked; tell who runs the broker"), err)
	}
	none, err := mask.Compile(nil)
	if err != nil {
		return masks{}, err
	}
	secrets := secretsOf(c)
	if up != nil {
		secrets = append(secrets, up.secret)
	}
	return masks{answers: detectors.Masker(secrets...), known: none.Masker(secrets...)}, nil
}

// secretsOf returns the fields of a credential that must not come back. A user name is not one: it
// is known to all, often a common word, and answers would be mangled for nothing.
func secretsOf(c cred.Credential) []cred.Secret {
	var names []string
	for name := range c.Fields {
		if c.Type != cred.UserPassword || name != "username" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := make([]cred.Secret, 0, len(names)+1)
	for _, name := range names {
		if v := c.Fields[name]; !v.IsZero() {
			out = append(out, v)
		}
	}
	return out
}

// text masks the session's secrets in a short text.
func (m masks) text(s string) string {
	if m.clean(s) {
		return s
	}
	b, counts := m.known.Bytes([]byte(s))
	if len(counts) == 0 {
		return s
	}
	return string(b)
}

// clean reports whether a quick look tells that a text has none of the session's secrets.
func (m masks) clean(s string) bool {
	var room [maxPathText]byte // most texts fit, and so need no memory
	return m.known.Clean(append(room[:0], s...))
}
