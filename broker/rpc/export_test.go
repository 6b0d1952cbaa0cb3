package rpc

import (
	"maps"

	"google.golang.org/grpc"

	"github.com/daypass-io/daypass/cred"
)

// What the tests look at from outside.
var (
	ToStatus  = toStatus
	CodeOf    = maps.Clone(codeOf)
	ParseForm = parseForm
	ErrNoForm = errNoForm
)

// ServiceInfo returns the services of both gRPC servers.
func (s *Server) ServiceInfo() []map[string]grpc.ServiceInfo {
	return []map[string]grpc.ServiceInfo{s.callers.GetServiceInfo(), s.proxies.GetServiceInfo()}
}

// Access returns the line of the allow-list for a method: "" where there is none.
func Access(method string) string {
	return [...]string{"", "open", "bearers", "holders", "proxies"}[allowList[method]]
}

// AllowListed returns all methods of the allow-list.
func AllowListed() []string {
	var out []string
	for method := range allowList {
		out = append(out, method)
	}
	return out
}

// KindTables returns how many kinds each table of the edge knows.
func KindTables() map[string]func(cred.Kind) bool {
	return map[string]func(cred.Kind) bool{
		"codeOf":       func(k cred.Kind) bool { _, ok := codeOf[k]; return ok },
		"httpStatusOf": func(k cred.Kind) bool { _, ok := httpStatusOf[k]; return ok },
		"oauthCodeOf":  func(k cred.Kind) bool { _, ok := oauthCodeOf[k]; return ok },
	}
}
