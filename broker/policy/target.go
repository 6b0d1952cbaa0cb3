package policy

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func byName(a, b cred.Target) int { return strings.Compare(a.Name, b.Name) }

func (c *compiler) targets() {
	names := map[string]bool{}
	for i, t := range c.src.Targets {
		path := strictyaml.Index("targets", i)
		c.name(path+".name", t.Name, names)
		if t.Credential.Issuer == "" {
			c.refuse(path+".credential.issuer", "is missing", "")
		}
		c.delivery(path, t)
		if t.HTTP != nil {
			c.upstream(path+".http.upstream", t.HTTP.Upstream)
			c.inject(path+".http.inject", t.HTTP.Inject)
		}
		compiled := t.target()
		compiled.Quota = cred.Quota{
			PerPrincipal: c.rate(path+".quota.per_principal", t.Quota.PerPrincipal),
			Total:        c.rate(path+".quota.total", t.Quota.Total),
		}
		c.set.targets[t.Name] = compiled
	}
}

func (c *compiler) delivery(path string, t Target) {
	switch proxied := t.delivery() == cred.DeliverProxy; {
	case proxied && t.HTTP == nil:
		c.refuse(path+".deliver", "needs http: a proxy has to know where to spend the credential", "")
	case !proxied && t.HTTP != nil:
		c.refuse(path+".http", "is for a proxy, and this target is delivered directly", "")
	case !proxied && len(t.Mask.Detectors) > 0:
		c.refuse(path+".mask", "is for a proxy, and this target is delivered directly", "")
	}
}

// upstream checks a base URL. A query or fragment would be lost, and user information is a secret.
func (c *compiler) upstream(path, raw string) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		c.refuse(path, "must be a URL such as https://api.example.com/v1", "")
	case u.User != nil:
		c.refuse(path, "must have no user information", "the credential comes from the issuer")
	case strings.ContainsAny(raw, "?#"):
		c.refuse(path, "must have no query and no fragment", "")
	}
}

var ratePattern = regexp.MustCompile(`^(?:([0-9]{1,7})/([0-9a-z]{1,16}))$`)

// rate reads so many in a time; nothing is no bound.
func (c *compiler) rate(path, text string) cred.Rate {
	if text == "" {
		return cred.Rate{}
	}
	m := ratePattern.FindStringSubmatch(text)
	if m == nil {
		c.refuse(path, `must be a count and a time, such as "30/1h"`, "")
		return cred.Rate{}
	}
	n, err := strconv.Atoi(m[1])
	per, err2 := strictyaml.ParseDuration(m[2])
	switch {
	case err != nil || err2 != nil:
		c.refuse(path, `must be a count and a time, such as "30/1h"`, "")
	case n < 1 || n > maxRate:
		c.refuse(path, fmt.Sprintf("must have a count from 1 to %d", maxRate), "to allow nothing, write a deny rule")
	case per < time.Second || per > MaxTTL:
		c.refuse(path, "must have a time from 1s to 30d", "")
	}
	return cred.Rate{N: n, Per: per}
}

// maxRate is the highest count of a quota.
const maxRate = 1_000_000

var headerName = regexp.MustCompile("^(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$") // token of RFC 9110, section 5.6.2

// framing are headers that say how a request is read, so that nothing may be injected there.
var framing = []string{"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}

func (c *compiler) inject(path string, in Inject) {
	named := in.Kind == string(cred.InjectHeader) || in.Kind == string(cred.InjectQuery)
	if named && in.Name == "" {
		c.refuse(path+".name", fmt.Sprintf("is missing: kind %s needs it", in.Kind), "")
	}
	if !named && in.Name != "" {
		c.refuse(path+".name", "is for the kinds header and query", "")
	}
	if in.Kind == string(cred.InjectHeader) && in.Name != "" {
		if !headerName.MatchString(in.Name) || slices.Contains(framing, strings.ToLower(in.Name)) {
			c.refuse(path+".name", "is not a header that a credential can be put into", "")
		}
	}
	if in.Prefix != "" && in.Kind != string(cred.InjectHeader) {
		c.refuse(path+".prefix", "is for the kind header", "")
	}
	if strings.ContainsFunc(in.Prefix, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.refuse(path+".prefix", "must be printable ASCII", "")
	}
}

// delivery returns where the credential goes, the default included.
func (t Target) delivery() cred.Delivery {
	switch {
	case t.Deliver != "":
		return cred.Delivery(t.Deliver)
	case t.HTTP != nil:
		return cred.DeliverProxy
	}
	return cred.DeliverDirect
}

func (t Target) target() cred.Target {
	out := cred.Target{
		Name: t.Name, Labels: t.Labels, Deliver: t.delivery(),
		Credential: cred.CredentialSource{
			Issuer: t.Credential.Issuer, Path: t.Credential.Path, Params: t.Credential.Params,
			Type: cred.CredentialType(t.Credential.Type), Fields: t.Credential.Fields,
		},
		Mask: cred.MaskSettings{Detectors: t.Mask.Detectors},
	}
	if h := t.HTTP; h != nil {
		out.HTTP = &cred.HTTPTarget{
			Upstream: h.Upstream, AllowPrivate: h.AllowPrivate,
			Inject: cred.Injection{
				Kind: cred.InjectKind(h.Inject.Kind), Name: h.Inject.Name,
				Prefix: h.Inject.Prefix, Field: h.Inject.Field,
			},
		}
	}
	return out
}
