package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

// Possession says whether a caller has shown that it holds the keys which its grant token is bound
// to; bound is nil for a token that is bound to none. It is asked about every token that verified,
// each time that it comes, since a session is shared by all of a grant's operations and the proof is
// of one. Its error is a *cred.Error, and a refusal.
type Possession func(bound *token.Confirmation) error

// Bearer is the Possession of a caller that shows nothing but its token: no bound token is taken.
func Bearer(bound *token.Confirmation) error {
	if bound != nil {
		return errBound
	}
	return nil
}

var (
	errProofMissing = refusal(cred.Unauthenticated, "proof_missing",
		`this grant token is bound to a DPoP key: send it as "Authorization: DPoP TOKEN", with a proof by that key in the header DPoP; 'daypass proof' makes one`)
	errProofTwice = refusal(cred.Unauthenticated, "proof_twice", "more than one DPoP header was sent; send one proof")
	errNotBound   = refusal(cred.Unauthenticated, "token_not_bound",
		"a DPoP proof came with a grant token that is bound to no DPoP key, so it proves nothing; ask for a token that is bound to your key, or send this one as a bearer token")
	errProofURL = refusal(cred.Unavailable, "proof_url",
		"this proxy does not know the URL that it is called by, so it can't take DPoP proofs; tell who runs it to set url in its configuration")
	errCertificateMissing = refusal(cred.Unauthenticated, "certificate_missing",
		"this grant token is bound to a TLS client certificate, and this connection shows none; connect over TLS with that certificate")
	errCertificateMismatch = refusal(cred.Unauthenticated, "certificate_mismatch",
		"this grant token is bound to another TLS client certificate than the one that this connection shows; connect with the one that the token was asked for with")
)

// possession is the Possession of an HTTP request. A token that is bound to a key and a certificate
// needs both. The certificate comes first, since looking at it uses up nothing.
func (x *exchange) possession(c carried) Possession {
	return func(bound *token.Confirmation) error {
		if bound == nil {
			bound = &token.Confirmation{}
		} else if *bound == (token.Confirmation{}) {
			return errBound // in a way that is not known here
		}
		if err := checkCertificate(x.r.TLS, bound.CertificateThumbprint); err != nil {
			return err
		}
		proofs := x.r.Header["Dpop"]
		switch isProven := c.dpop || len(proofs) > 0; {
		case bound.KeyThumbprint == "" && isProven:
			return errNotBound
		case bound.KeyThumbprint == "":
			return nil
		case !c.dpop || len(proofs) == 0:
			return errProofMissing
		case len(proofs) > 1:
			return errProofTwice
		}
		return x.checkProof(proofs[0], c.token, bound.KeyThumbprint)
	}
}

// checkCertificate compares the client certificate of a connection with a thumbprint (RFC 8705,
// section 3.1). Who issued it does not matter: the handshake has shown that the caller has its key.
func checkCertificate(state *tls.ConnectionState, thumbprint string) error {
	if thumbprint == "" {
		return nil
	}
	if state == nil || len(state.PeerCertificates) == 0 {
		return errCertificateMissing
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	if base64.RawURLEncoding.EncodeToString(sum[:]) != thumbprint {
		return errCertificateMismatch
	}
	return nil
}

// checkProof verifies the one proof of a request, and notes the nonce for the next one where it has
// changed (RFC 9449, section 8.2).
func (x *exchange) checkProof(proof string, tok cred.Secret, thumbprint string) error {
	base := baseURL(x.h.o.URL, x.r)
	if base == "" {
		return errProofURL
	}
	got, err := x.h.proofs.Verify(proof, dpop.Want{
		Method: x.r.Method, URL: base + x.r.URL.EscapedPath(),
		AccessToken: tok.RevealString(), Thumbprint: thumbprint,
	})
	nonce := x.h.proofs.Nonce()
	if e, ok := errors.AsType[*cred.Error](err); ok && e.Reason == dpop.ReasonUseNonce {
		return &nonceError{nonce, err}
	}
	if nonce != got.Nonce {
		x.nonce = nonce
	}
	return err
}

// nonceError is a refusal that brings the nonce which the next proof must have.
type nonceError struct {
	nonce string
	error
}

func (e *nonceError) Unwrap() error { return e.error }

// baseURL returns the scheme and authority of the URLs that callers use: as configured, else the
// address that the connection came in at. The Host header is not believed: a server that a caller
// takes for another one could put its own name there, and spend here what was made for itself. Of
// the names of loopback it may choose. The result is empty where there is no way to know.
func baseURL(configured string, r *http.Request) string {
	if configured != "" {
		return strings.TrimSuffix(configured, "/")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	at, ok := local.(*net.TCPAddr)
	if !ok || at.Zone != "" {
		return ""
	}
	scheme, authority := "http://", at.String()
	if r.TLS != nil {
		scheme = "https://"
	}
	if _, port, err := net.SplitHostPort(authority); err == nil && at.IP.IsLoopback() && strings.EqualFold(r.Host, "localhost:"+port) {
		authority = r.Host
	}
	return scheme + authority
}

// algorithms is what a challenge lists.
var algorithms = strings.Join(dpop.Algorithms(), " ")

// challengeDPoP adds what RFC 9449, sections 7.1 and 9, wants of a refusal that a proof can mend. It
// reports whether it is one.
func challengeDPoP(h http.Header, err error, reason string) bool {
	code := "invalid_dpop_proof"
	switch {
	case reason == dpop.ReasonUseNonce:
		code = "use_dpop_nonce"
	case reason == dpop.ReasonKeyMismatch, errors.Is(err, errProofMissing):
		code = "invalid_token"
	case reason == dpop.ReasonInvalid, reason == dpop.ReasonReplayed, errors.Is(err, errProofTwice):
	default:
		return false
	}
	h.Set("Www-Authenticate", `DPoP realm="daypass", error="`+code+`", error_description="`+reason+`", algs="`+algorithms+`"`)
	if e, ok := errors.AsType[*nonceError](err); ok {
		h.Set(nonceHeader, e.nonce)
	}
	return true
}

// nonceHeader brings a caller the nonce of its next proof (RFC 9449, section 8).
const nonceHeader = "Dpop-Nonce"
