package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

// binder finds out to which key of the caller's a grant is to be bound.
type binder struct {
	url    string // our own
	proofs *dpop.Verifier
}

func newBinder(url string) *binder { return &binder{url, dpop.New(dpop.Options{})} }

// ofCall reads the wish of a gRPC call: a DPoP proof in the metadata "dpop", made for POST and the
// URL of the method, or the certificate of the connection. It returns the key's thumbprint.
func (b *binder) ofCall(ctx context.Context, certificate bool) (string, cred.Binding, error) {
	method, _ := grpc.Method(ctx)
	proofs := metadata.ValueFromIncomingContext(ctx, "dpop")
	var state *tls.ConnectionState
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			state = &info.State
		}
	}
	return b.key(proofs, b.url+method, certificate, state)
}

// ofRequest reads the wish of an HTTP request: the header DPoP (RFC 9449, section 5), or the form's
// bind_certificate.
func (b *binder) ofRequest(r *http.Request) (string, cred.Binding, error) {
	return b.key(r.Header["Dpop"], b.url+r.URL.Path, r.PostForm.Get("bind_certificate") == "true", r.TLS)
}

func (b *binder) key(proofs []string, url string, certificate bool, state *tls.ConnectionState) (string, cred.Binding, error) {
	switch {
	case len(proofs) == 0 && !certificate:
		return "", "", nil
	case len(proofs) > 1 || len(proofs) == 1 && certificate:
		return "", "", &cred.Error{
			Kind: cred.Invalid, Op: "bind", Reason: "ONE_BINDING",
			Public: "a grant is bound to one key: send one DPoP proof, or ask for the certificate, not both",
		}
	case certificate:
		return thumbprintOf(state)
	}
	p, err := b.proofs.Verify(proofs[0], dpop.Want{Method: http.MethodPost, URL: url})
	return p.Thumbprint, cred.BindDPoP, err
}

// thumbprintOf is the x5t#S256 of the connection's client certificate (RFC 8705, section 3.1). The
// handshake has proved that the caller has its key; who issued it does not matter.
func thumbprintOf(state *tls.ConnectionState) (string, cred.Binding, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "", "", &cred.Error{
			Kind: cred.Invalid, Op: "bind", Reason: "NO_CERTIFICATE",
			Public: "there is no client certificate to bind the grant to; connect with one",
		}
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:]), cred.BindMTLS, nil
}
