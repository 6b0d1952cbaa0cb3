package dpop

import (
	"net/url"
	"strings"
)

// normalized returns an http or https URL in the form in which two of them are compared (RFC 9449,
// section 4.3; RFC 3986, sections 6.2.2 and 6.2.3): without query and fragment, scheme and host in
// lower case, no default port, "/" for an empty path, escapes of unreserved characters undone and
// the others in capitals. Dot segments stay: a path that climbs equals itself alone.
func normalized(address string) (string, bool) {
	if len(address) > MaxBytes || strings.ContainsFunc(address, notInURL) {
		return "", false
	}
	address, _, _ = strings.Cut(address, "#")
	address, _, _ = strings.Cut(address, "?")
	scheme, rest, ok := strings.Cut(address, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return "", false
	}
	authority, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	host, ok := normalHost(scheme, authority)
	if !ok {
		return "", false
	}
	path, ok = normalPath(path)
	return scheme + "://" + host + path, ok
}

// notInURL reports what no URI has unescaped (RFC 3986, section 2).
func notInURL(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\^`+"`{|}", r) }

// normalHost reads HOST or HOST:PORT, and nothing that net/url finds more in: a user name, an escape.
func normalHost(scheme, authority string) (string, bool) {
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil || u.Host != authority || u.Hostname() == "" {
		return "", false
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[scheme] {
		host += ":" + port
	}
	return host, true
}

const upperHex = "0123456789ABCDEF"

// normalPath normalises the escapes of a path; one that is not of two hexadecimal digits is refused.
func normalPath(path string) (string, bool) {
	if !strings.Contains(path, "%") {
		return path, true
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", false
		}
		high, ok1 := unhex(path[i+1])
		low, ok2 := unhex(path[i+2])
		if !ok1 || !ok2 {
			return "", false
		}
		if c := high<<4 | low; isUnreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[high])
			b.WriteByte(upperHex[low])
		}
		i += 2
	}
	return b.String(), true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// isUnreserved implements unreserved of RFC 3986, section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
