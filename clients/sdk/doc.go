// Package sdk is the Go client of the daypass broker: the broker's own verbs, in the words of package
// cred, with its errors.
//
// A Client is for those who ask and those who audit; it authenticates each call with a token from its
// TokenSource. A ProxyClient is for companion proxies and authenticates with a client certificate.
package sdk
