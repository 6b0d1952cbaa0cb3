// Package rpc is the broker's wire: gRPC services that map messages to one Broker call each, the
// interceptors around them, and the HTTP endpoints of an OAuth token service on the same port.
//
// It decides nothing. A caller is identified in one place (callers.go), an error becomes a status in
// one place for gRPC (status.go) and in one place for HTTP (problem.go).
package rpc
