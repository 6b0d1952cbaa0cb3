package identity

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Place says which of a preset's issuers is meant. Each field is a key of the configuration file's
// identity_providers; which of them a preset takes is its own matter.
type Place struct {
	Issuer       string // takes the place of the preset's own
	Enterprise   string // github-actions: the slug of an enterprise with an issuer of its own
	Host         string // github-actions, gitlab: the server's host name
	Organization string // circleci, azure-devops: the organization's UUID
	Workspace    string // bitbucket: the workspace's name
	Tenant       string // entra: the directory's UUID
	TrustDomain  string // spiffe
	JWKSURL      string // spiffe, kubernetes, generic: where the keys are
}

// keys returns the keys that are set, but for issuer, which every preset takes.
func (at Place) keys() []string {
	var set []string
	for _, k := range []struct{ name, value string }{
		{"enterprise", at.Enterprise},
		{"host", at.Host},
		{"organization", at.Organization},
		{"workspace", at.Workspace},
		{"tenant", at.Tenant},
		{"trust_domain", at.TrustDomain},
		{"jwks_url", at.JWKSURL},
	} {
		if k.value != "" {
			set = append(set, k.name)
		}
	}
	return set
}

// Preset returns what daypass knows of a well-known issuer, and whether it knows the name. Issuer is
// empty where there are many; see FromPreset.
func Preset(name string) (Provider, bool) {
	p, known := presetNamed(name)
	return p.provider, known
}

// Presets returns the presets' names.
func Presets() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

func presetNamed(name string) (preset, bool) {
	for _, p := range presets() {
		if p.name == name {
			return p, true
		}
	}
	return preset{}, false
}

// FromPreset returns a preset's settings for one of its issuers, to be completed with a name and
// audiences; an empty name is generic. The problems say what is wrong with the place.
func FromPreset(name string, at Place) (Provider, []Problem) {
	if name == "" {
		name = generic
	}
	p, known := presetNamed(name)
	if !known {
		return Provider{}, []Problem{{"preset", "there is no such preset", hintOf(name)}}
	}
	out := p.provider
	out.JWKSURL, out.TrustDomain = at.JWKSURL, at.TrustDomain
	var problems []Problem
	for _, key := range at.keys() {
		if !slices.Contains(p.keys, key) {
			problems = append(problems, Problem{key, fmt.Sprintf("is not a key of preset %q", name), p.takes()})
		}
	}
	if p.needs != "" && !slices.Contains(at.keys(), p.needs) {
		problems = append(problems, Problem{p.needs, "is missing", ""})
	}
	if len(problems) > 0 {
		return out, problems
	}
	issuer, problems := p.issuerAt(at)
	if issuer != "" {
		out.Issuer = issuer
	}
	return out, problems
}

func hintOf(name string) string {
	if h := strictyaml.DidYouMean(name, Presets()); h != "" {
		return h
	}
	return "possible are " + strings.Join(Presets(), ", ")
}

// takes says which keys tell the preset's issuers apart.
func (p preset) takes() string {
	return "it takes " + strings.Join(append([]string{"issuer"}, p.keys...), ", ")
}

// issuerAt returns the issuer at a place, or nothing where it is the preset's own.
func (p preset) issuerAt(at Place) (string, []Problem) {
	named := slices.DeleteFunc(at.keys(), func(key string) bool { return key == "jwks_url" || key == "trust_domain" })
	switch {
	case at.Issuer != "" && len(named) > 0:
		return "", []Problem{{named[0], "can't be set beside issuer: both say which issuer it is", ""}}
	case at.Issuer != "" && slices.Contains(p.shared, strings.TrimRight(at.Issuer, "/")):
		return "", []Problem{{"issuer", "is one that all customers of the service share, so its tokens may be anybody's", p.takes()}}
	case at.Issuer != "":
		return at.Issuer, nil
	case p.issuer != nil:
		return p.issuer(at)
	case p.provider.Issuer == "" && p.name == generic:
		return "", []Problem{{"", "must have a preset or an issuer", ""}}
	case p.provider.Issuer == "":
		return "", []Problem{{"issuer", fmt.Sprintf("is missing: preset %q has none of its own", p.name), ""}}
	}
	return "", nil
}

var (
	uuidForm = regexp.MustCompile(`^(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)
	slugForm = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,99})$`)
)

// uuidIn returns an issuer of which a key's value, a UUID, is a part.
func uuidIn(key, value, before, after string) (string, []Problem) {
	switch {
	case value == "":
		return "", []Problem{{key, "is missing", "it is a UUID in lower case; or set issuer"}}
	case !uuidForm.MatchString(value):
		return "", []Problem{{key, "must be a UUID in lower case, such as 00000000-0000-4000-8000-000000000000", ""}}
	}
	return before + value + after, nil
}

// validHost reports whether a key's value is a host name, with a port or without.
func validHost(host string) bool {
	u, err := url.Parse("https://" + host)
	return err == nil && u.Host == host && u.Hostname() != "" && !strings.ContainsAny(host, "*%") && host == strings.ToLower(host)
}

func badHost() []Problem {
	return []Problem{{"host", "must be a host name in lower case, without scheme and path", "such as git.example.com"}}
}
