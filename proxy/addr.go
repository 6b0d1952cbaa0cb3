package proxy

import (
	"errors"
	"net/netip"
	"syscall"
)

// reach says how far an address reaches.
type reach int

const (
	public  reach = iota
	private       // loopback, private, link-local and other addresses that are not global
	never         // metadata services, multicast, and what is no address of one host
)

// errAddress is the cause of a refused connection.
var errAddress = errors.New("proxy: the upstream's address is not one that this target may have")

// allowOnly returns a net.Dialer's Control function: it looks at the address that is about to be
// connected to, after DNS, so that no name resolves its way around.
func allowOnly(most reach) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || reachOf(to.Addr()) > most {
			return errAddress
		}
		return nil
	}
}

// reachOf says how far an address reaches. One that carries an IPv4 address within it reaches no
// farther than that.
func reachOf(a netip.Addr) reach {
	a = a.Unmap().WithZone("")
	if in(a, metadata) || a.IsUnspecified() || a.IsMulticast() || in(a, nowhere) {
		return never
	}
	r := public
	if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || in(a, special) {
		r = private
	}
	for _, inner := range embedded(a) {
		r = max(r, reachOf(inner))
	}
	return r
}

func in(a netip.Addr, ranges []netip.Prefix) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

// metadata are the addresses where clouds give credentials to whoever asks. No target needs them,
// whatever it allows.
var metadata = prefixes(
	"169.254.169.0/24",                    // AWS, GCP, Azure and most others
	"169.254.170.0/24",                    // AWS, credentials of containers and pods
	"fd00:ec2::/32",                       // AWS over IPv6
	"fd20:ce::254/128",                    // GCP over IPv6
	"100.100.100.200/32",                  // Alibaba
	"192.0.0.192/32",                      // Oracle, older
	"168.63.129.16/32",                    // Azure's host agent
	"169.254.0.23/32", "169.254.10.10/32", // Tencent
)

// nowhere are addresses that are not of one host.
var nowhere = prefixes("0.0.0.0/8", "240.0.0.0/4", "255.255.255.255/32")

// special are the other ranges that IANA's special-purpose registries do not call globally
// reachable (RFC 6890), and those that translate into networks of our own.
var special = prefixes(
	"100.64.0.0/10",                 // carriers' NAT, RFC 6598
	"192.0.0.0/24", "198.18.0.0/15", // protocol assignments, benchmarks
	"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
	"64:ff9b:1::/48",                                      // NAT64 of one's own, RFC 8215
	"100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", // discard, protocol assignments with Teredo, documentation
	"5f00::/16", "fec0::/10", "::/96", // segment routing, site-local, IPv4-compatible
)

// embedded returns the IPv4 addresses that an IPv6 address carries: NAT64 (RFC 6052 and 8215), 6to4
// (RFC 3056), IPv4-compatible, ISATAP (RFC 5214).
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() || a.IsLoopback() {
		return nil
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case in(a, translated):
		return []netip.Addr{last}
	case b[0] == 0x20 && b[1] == 0x02:
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe:
		return []netip.Addr{last}
	}
	return nil
}

var translated = prefixes("64:ff9b::/96", "64:ff9b:1::/48", "::/96")
