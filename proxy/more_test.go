package proxy

import (
	"net"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/cred/token"
)

func confirmation() *token.Confirmation {
	return &token.Confirmation{KeyThumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}
}

// farListener is a listener on an address that is not loopback.
type farListener struct{ net.Listener }

func (farListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func contains(s, part string) bool { return strings.Contains(s, part) }

func itoa(n int) string { return strconv.Itoa(n) }
