package sdk

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/daypass-io/daypass/cred"
)

// TokenSource returns the token that authenticates the next call: an OIDC ID token, or for Revoke a
// grant token.
type TokenSource func(ctx context.Context) (cred.Secret, error)

// StaticToken is a TokenSource of one token.
func StaticToken(s cred.Secret) TokenSource {
	return func(context.Context) (cred.Secret, error) { return s, nil }
}

const (
	maxAnswerBytes = 16 << 20         // one message from the broker
	silence        = 30 * time.Second // after which a call asks whether the broker is still there
	connectTimeout = 20 * time.Second // gRPC's own
	longestPause   = 5 * time.Second  // between two tries to connect
)

// dial connects to a broker's URL. https uses tlsConfig (nil: the system's roots) with TLS 1.3 at the
// least; http is for a loopback address alone, since the call carries tokens.
func dial(broker string, tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	u, err := url.Parse(broker)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || strings.ContainsAny(broker, "?#") {
		return nil, &cred.Error{Kind: cred.Invalid, Op: "dial", Public: "the broker's address must be a URL of scheme and host alone, such as https://daypass.example.com:8443"}
	}
	var transport credentials.TransportCredentials
	switch u.Scheme {
	case "https":
		c := tlsConfig.Clone()
		if c == nil {
			c = &tls.Config{}
		}
		c.MinVersion = tls.VersionTLS13
		transport = credentials.NewTLS(c)
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, &cred.Error{Kind: cred.Invalid, Op: "dial", Public: "a broker at an http address must be on this machine (a loopback address); use https"}
		}
		transport = insecure.NewCredentials()
	default:
		return nil, &cred.Error{Kind: cred.Invalid, Op: "dial", Public: "the broker's address must begin with https:// (or http:// on loopback)"}
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"https": "443", "http": "80"}[u.Scheme])
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silence}),
		grpc.WithConnectParams(reconnect()),
	}
	conn, err := grpc.NewClient("passthrough:///"+host, options...)
	if err != nil {
		return nil, cred.Errorf(cred.Invalid, "dial", "the broker's address can't be used", "%w", err)
	}
	return conn, nil
}

// reconnect is gRPC's own pace but for its longest pause, of two minutes: so long a proxy must not stay
// without its broker after an outage.
// https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
func reconnect() grpc.ConnectParams {
	pace := backoff.DefaultConfig
	pace.MaxDelay = longestPause
	return grpc.ConnectParams{Backoff: pace, MinConnectTimeout: connectTimeout}
}
