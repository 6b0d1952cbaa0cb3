// Package login signs people in with OpenID Connect, for a command line: in a browser on the same
// machine (authorization code with PKCE, RFC 7636, on a loopback redirect, RFC 8252), or on another
// device (RFC 8628).
//
// Discover asks a broker where its people sign in, a Flow signs somebody in, and a Keeper keeps the
// sign-in and hands out its ID token, refreshed where it is about to end.
package login
