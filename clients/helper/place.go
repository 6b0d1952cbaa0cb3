package helper

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Place is where a credential may be sent: a scheme, a host with its port where it has one, and a path
// that others begin with. A helper answers for nothing else, however it was called.
type Place struct{ Scheme, Host, Path string }

// ParsePlace reads HOST[:PORT][/PATH], which means https, or a URL. http is for loopback addresses
// alone, since what is sent there can be read on the way.
func ParsePlace(s string) (Place, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Place{}, fmt.Errorf("%q is neither a host nor a URL", s)
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.Hostname() == "" || u.User != nil || strings.ContainsAny(s, "?#"):
		return Place{}, fmt.Errorf("%q must be a host, and may have a scheme, a port and a path, and nothing else", s)
	case u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()):
		return Place{}, errors.New("a credential is sent over https; http is for loopback addresses alone")
	case u.Scheme != "http" && u.Scheme != "https":
		return Place{}, fmt.Errorf("%q is neither https nor http", u.Scheme)
	}
	return Place{u.Scheme, lower(u.Host), strings.Trim(u.Path, "/")}, nil
}

// URL returns the place as a URL.
func (p Place) URL() string {
	u := p.Scheme + "://" + p.Host
	if p.Path != "" {
		u += "/" + p.Path
	}
	return u
}

// Has reports whether a tool's question is about this place. A path counts by whole segments.
func (p Place) Has(scheme, host, path string) bool {
	if scheme != p.Scheme || lower(host) != p.Host {
		return false
	}
	path = strings.Trim(path, "/")
	return p.Path == "" || path == p.Path || strings.HasPrefix(path, p.Path+"/")
}

// lower folds ASCII alone, as host names are compared (RFC 4343): other characters that fold to a letter
// name other hosts.
func lower(host string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, host)
}
