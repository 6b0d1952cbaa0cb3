package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"regexp"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// caller is who makes a call.
type caller struct {
	who broker.Caller
	// grant is set where the caller showed a grant token in place of an ID token.
	grant cred.GrantID
}

type callerKey struct{}

// callerOf returns who makes a call; authenticate has put it there.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// allowed says who may call a service at all. A method that is not listed may be called by nobody.
type allowed int

const (
	nobody  allowed = iota
	open            // health and reflection: they tell nothing of ours
	bearers         // people and workloads, by ID token
	holders         // bearers, or whoever shows the grant token itself
	proxies         // companion proxies, by client certificate
)

// allowList is the allow-list of clients for each method.
var allowList = map[string]allowed{
	pb.ExchangeService_Exchange_FullMethodName:        bearers,
	pb.ExchangeService_Wait_FullMethodName:            bearers,
	pb.ExchangeService_Renew_FullMethodName:           bearers,
	pb.ExchangeService_Revoke_FullMethodName:          holders,
	pb.ExchangeService_ListTargets_FullMethodName:     bearers,
	pb.ExchangeService_WhoAmI_FullMethodName:          bearers,
	pb.ProxyService_Redeem_FullMethodName:             proxies,
	pb.ProxyService_WatchRevocations_FullMethodName:   proxies,
	pb.ProxyService_ShipUses_FullMethodName:           proxies,
	pb.AuditService_ListGrants_FullMethodName:         bearers,
	pb.AuditService_GetGrant_FullMethodName:           bearers,
	pb.AuditService_ListLeases_FullMethodName:         bearers,
	pb.AuditService_ListSources_FullMethodName:        bearers,
	pb.AuditService_Export_FullMethodName:             bearers,
	pb.AuditService_GetCheckpoint_FullMethodName:      bearers,
	pb.ApprovalService_ListRequests_FullMethodName:    bearers,
	pb.ApprovalService_GetRequest_FullMethodName:      bearers,
	pb.ApprovalService_Review_FullMethodName:          bearers,
	pb.ApprovalService_Watch_FullMethodName:           bearers,
	pb.ApprovalService_ProposeStanding_FullMethodName: bearers,
	pb.ApprovalService_ReviewStanding_FullMethodName:  bearers,
	pb.ApprovalService_ListStanding_FullMethodName:    bearers,
	pb.ApprovalService_RevokeStanding_FullMethodName:  bearers,
	pb.LockService_Lock_FullMethodName:                bearers,
	pb.LockService_Unlock_FullMethodName:              bearers,
	pb.LockService_ListLocks_FullMethodName:           bearers,
	pb.PolicyService_Explain_FullMethodName:           bearers,
	pb.PolicyService_GetPolicy_FullMethodName:         bearers,
	pb.PolicyService_ListPolicies_FullMethodName:      bearers,
	pb.RotationService_Rotate_FullMethodName:          bearers,
	pb.RotationService_CheckRotation_FullMethodName:   bearers,
	pb.RotationService_GetRotation_FullMethodName:     bearers,
	pb.RotationService_WatchRotation_FullMethodName:   bearers,
	pb.RotationService_ListRotations_FullMethodName:   bearers,
	pb.RotationService_ListRoots_FullMethodName:       bearers,
	"/grpc.health.v1.Health/Check":                    open,
	"/grpc.health.v1.Health/Watch":                    open,
	"/grpc.health.v1.Health/List":                     open,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      open,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": open,
}

// authenticate finds out who calls a method, or refuses. Every refusal is recorded.
func (s *Server) authenticate(ctx context.Context, method string) (context.Context, error) {
	ctx = broker.WithPeer(ctx, peerAddr(ctx))
	access := allowList[method]
	if access == open {
		return ctx, nil
	}
	var c caller
	var err error
	switch access {
	case bearers, holders:
		var tok string
		if tok, err = bearerOf(metadata.ValueFromIncomingContext(ctx, "authorization")); err == nil {
			c, err = s.identify(ctx, tok, access == holders)
			return context.WithValue(ctx, callerKey{}, c), err
		}
	case proxies:
		c.who.Principal, err = s.proxyOf(ctx)
	default:
		err = &cred.Error{Kind: cred.Denied, Op: "authenticate", Reason: "METHOD_CLOSED", Public: "nobody may call this method"}
	}
	if err != nil {
		return ctx, s.broker.RefuseUnidentified(ctx, method, err)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

// bearerOf returns the token of the one Authorization header (RFC 6750, section 2.1).
func bearerOf(headers []string) (string, error) {
	if len(headers) == 1 {
		scheme, tok, _ := strings.Cut(headers[0], " ")
		if strings.EqualFold(scheme, "Bearer") && tok != "" {
			return tok, nil
		}
	}
	return "", &cred.Error{
		Kind: cred.Unauthenticated, Op: "authenticate", Reason: "NO_TOKEN",
		Public: "send exactly one 'Authorization: Bearer TOKEN' with your OIDC ID token",
	}
}

// identify takes an ID token, and where the call allows it one of our own grant tokens.
func (s *Server) identify(ctx context.Context, tok string, grantTokens bool) (caller, error) {
	if grantTokens && s.broker.IssuedByUs(tok) {
		who, id, err := s.broker.AuthenticateGrant(ctx, tok)
		return caller{who: who, grant: id}, err
	}
	who, err := s.broker.Authenticate(ctx, tok)
	return caller{who: who}, err
}

// proxyOf tells which proxy calls, by the URI daypass://proxy/NAME in its verified client certificate.
func (s *Server) proxyOf(ctx context.Context) (cred.Principal, error) {
	refused := &cred.Error{
		Kind: cred.Unauthenticated, Op: "authenticate", Reason: "NO_PROXY_CERTIFICATE",
		Public: "this call is for companion proxies: connect with the client certificate that 'daypassd init' made",
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return cred.Principal{}, refused
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || !s.fromOurCA(&info.State) {
		return cred.Principal{}, refused
	}
	leaf := info.State.PeerCertificates[0]
	name := proxyName(leaf.URIs)
	if name == "" {
		return cred.Principal{}, refused
	}
	if s.sawProxy != nil {
		s.sawProxy(name, leaf)
	}
	return proxyPrincipal(name, leaf), nil
}

// fromOurCA reports whether a connection showed a client certificate of the CA of the proxies. The
// handshake asks for certificates of any issuer, since callers may bind grants to their own, and so
// verifies none.
func (s *Server) fromOurCA(state *tls.ConnectionState) bool {
	if s.clientCAs == nil || len(state.PeerCertificates) == 0 {
		return false
	}
	roots := s.clientCAs()
	if roots == nil { // which would mean the system's
		return false
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// proxyURI is the whole form of a proxy's URI: a name as configurations allow it and nothing else, so
// no user, port, query or further path.
var proxyURI = regexp.MustCompile(`\Adaypass://proxy/([A-Za-z0-9][A-Za-z0-9._-]{0,127})\z`)

// proxyName returns the name in a certificate's one URI, or nothing.
func proxyName(uris []*url.URL) string {
	if len(uris) != 1 {
		return ""
	}
	if m := proxyURI.FindStringSubmatch(uris[0].String()); m != nil {
		return m[1]
	}
	return ""
}

func proxyPrincipal(name string, leaf *x509.Certificate) cred.Principal {
	return cred.Principal{
		Provider: "mtls", Issuer: leaf.Issuer.String(), Subject: leaf.URIs[0].String(), Name: name, Kind: cred.KindProxy,
	}
}

func peerAddr(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	return hostOf(p.Addr.String())
}

// hostOf drops the port, which says nothing after the fact.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

func (s *Server) authUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authenticate(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) authStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authenticate(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if endless(info.FullMethod) {
		defer context.AfterFunc(s.running, cancel)()
	}
	return next(srv, &identified{ss, ctx})
}

// endless tells the streams that have no end of their own, and so must end when the server does.
func endless(method string) bool {
	switch method {
	case pb.ProxyService_WatchRevocations_FullMethodName, pb.ExchangeService_Wait_FullMethodName, pb.ApprovalService_Watch_FullMethodName,
		pb.RotationService_WatchRotation_FullMethodName:
		return true
	}
	return allowList[method] == open
}

// identified is a stream whose context knows the caller.
type identified struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *identified) Context() context.Context { return s.ctx }
