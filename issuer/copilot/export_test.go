package copilot

import "net/http"

// SetTransport puts an issuer's answers into a test's hand.
func SetTransport(i *Issuer, t http.RoundTripper) { i.http.HTTP.Transport = t }
