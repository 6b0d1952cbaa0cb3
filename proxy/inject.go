package proxy

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/daypass-io/daypass/cred"
)

// upstream is where a session's credential is spent over HTTP, and how it is put into a request.
type upstream struct {
	base    url.URL // scheme and host; the path is in prefix
	prefix  string  // escaped path of the base URL, without a slash at its end
	private bool    // may have a private, loopback or link-local address

	header string      // canonical name of the injected header; empty: the query has it
	query  string      // name of the injected query parameter
	secret cred.Secret // the whole value that is injected
}

var errUpstreamURL = refusal(cred.Unavailable, "target_unusable",
	"this target's upstream is not a plain http or https URL; tell who runs the broker")

// newUpstream checks how a target is spent. A credential that lacks what is to be injected is
// refused: nothing is ever forwarded without it.
func newUpstream(t cred.HTTPTarget, c cred.Credential) (*upstream, error) {
	base, err := url.Parse(t.Upstream)
	if err != nil {
		return nil, because(errUpstreamURL, err)
	}
	plain := base.User == nil && base.RawQuery == "" && !base.ForceQuery && base.Fragment == "" && base.Opaque == ""
	if base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || !plain {
		return nil, errUpstreamURL
	}
	prefix := strings.TrimSuffix(base.EscapedPath(), "/")
	if prefix != "" && checkPath(prefix) != nil {
		return nil, errUpstreamURL
	}
	u := &upstream{base: url.URL{Scheme: base.Scheme, Host: base.Host}, prefix: prefix, private: t.AllowPrivate}
	if err := u.inject(t.Inject, c); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *upstream) inject(how cred.Injection, c cred.Credential) error {
	kind := how.Kind
	if kind == "" {
		kind = map[cred.CredentialType]cred.InjectKind{cred.Bearer: cred.InjectBearer, cred.UserPassword: cred.InjectBasic}[c.Type]
	}
	if kind == cred.InjectBasic {
		return u.injectBasic(c)
	}
	value, err := fieldOf(c, how.Field)
	if err != nil {
		return err
	}
	switch kind {
	case cred.InjectBearer:
		return u.injectHeader("Authorization", "Bearer "+value)
	case cred.InjectHeader:
		return u.injectHeader(how.Name, how.Prefix+value)
	case cred.InjectQuery:
		if how.Name == "" {
			return errInject
		}
		u.query, u.secret = how.Name, cred.SecretString(value)
		return nil
	}
	return errInject
}

var (
	errInject = refusal(cred.Unavailable, "target_unusable",
		"this target does not say in a way that this proxy knows how its credential goes into a request; tell who runs the broker")
	errField = refusal(cred.Unavailable, "credential_incomplete",
		"the credential behind this target lacks the field that is to be sent, so nothing was forwarded; tell who runs the broker")
	errValue = refusal(cred.Unavailable, "credential_malformed",
		"the credential behind this target has characters that can't be sent, a line end perhaps, so nothing was forwarded; tell who runs the broker")
)

// fieldOf returns a field by name, "token" where none is named, or the only one there is.
func fieldOf(c cred.Credential, name string) (string, error) {
	v := c.Fields[name]
	if name == "" {
		v = c.Fields["token"]
	}
	if name == "" && v.IsZero() && len(c.Fields) == 1 {
		for _, only := range c.Fields {
			v = only
		}
	}
	if v.IsZero() {
		return "", errField
	}
	return v.RevealString(), nil
}

// injectBasic prepares HTTP Basic credentials (RFC 7617, section 2).
func (u *upstream) injectBasic(c cred.Credential) error {
	user, password := c.Fields["username"].RevealString(), c.Fields["password"].RevealString()
	if user == "" || password == "" {
		return errField
	}
	pair := user + ":" + password
	if strings.Contains(user, ":") || strings.ContainsFunc(pair, isControl) {
		return errValue
	}
	return u.injectHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
}

func (u *upstream) injectHeader(name, value string) error {
	name = http.CanonicalHeaderKey(name)
	if !httpguts.ValidHeaderFieldName(name) || framing[name] {
		return errInject
	}
	if !httpguts.ValidHeaderFieldValue(value) || strings.TrimSpace(value) != value {
		return errValue
	}
	u.header, u.secret = name, cred.SecretString(value)
	return nil
}

// framing are the headers that a credential can't be in, since they say how a message is framed or
// where it goes.
var framing = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true, "Connection": true,
	"Te": true, "Upgrade": true, "Keep-Alive": true, "Proxy-Connection": true, "Expect": true,
}

// query parameters are separated by & alone; where one is injected, a query that an upstream could
// read otherwise is refused.
var errQuery = refusal(cred.Invalid, "query_ambiguous",
	"this request's query can be read in more than one way; encode it as application/x-www-form-urlencoded")

// urlOf returns the URL of a request to the upstream, with the credential if it goes there. The path
// has been checked.
func (u *upstream) urlOf(path, rawQuery string) (*url.URL, error) {
	out := u.base
	escaped := u.prefix + path
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, because(errPath, err)
	}
	out.Path, out.RawPath = decoded, escaped
	if out.EscapedPath() != escaped {
		return nil, errPath
	}
	if strings.Contains(rawQuery, "#") { // no query has one (RFC 3986 §3.4); a reader would cut the URL there
		return nil, errQuery
	}
	if u.query == "" {
		out.RawQuery = rawQuery
		return &out, nil
	}
	rest, err := withoutParameter(rawQuery, u.query)
	if err != nil {
		return nil, err
	}
	out.RawQuery = url.QueryEscape(u.query) + "=" + url.QueryEscape(u.secret.RevealString())
	if rest != "" {
		out.RawQuery = rest + "&" + out.RawQuery
	}
	return &out, nil
}

// withoutParameter drops every parameter of a name, in any case and however it is escaped.
func withoutParameter(rawQuery, name string) (string, error) {
	if strings.Contains(rawQuery, ";") {
		return "", errQuery
	}
	var keep []string
	for pair := range strings.SplitSeq(rawQuery, "&") {
		key, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(key)
		if err != nil {
			return "", errQuery
		}
		if pair != "" && !strings.EqualFold(strings.TrimSpace(decoded), name) {
			keep = append(keep, pair)
		}
	}
	return strings.Join(keep, "&"), nil
}

// setHeader puts the credential into a request's header, if it goes there.
func (u *upstream) setHeader(h http.Header) {
	if u.header != "" {
		h[u.header] = []string{u.secret.RevealString()}
	}
}
