// Package oauth mints access tokens at the token endpoint of an OAuth 2.0 server (RFC 6749): with the
// broker's own client credentials, with a refresh token that it keeps, or with an ID token that it
// signs for itself (token exchange, RFC 8693; JWT bearer, RFC 7523).
//
// Each lease gets a token of its own. Where the server has a revocation endpoint (RFC 7009) the lease
// is revocable: its handle is the token itself, sealed. Where it has none the token lives until its
// own end, and the lease says so.
//
// What a token may do is its scope. A grant's scopes are what is asked for, and the answer is held
// against them: servers answer with less, and some with more.
package oauth

import (
	"context"
	"crypto"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/flights"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// Grant is what the token endpoint is asked with, by its grant_type.
type Grant string

// The grants.
const (
	ClientCredentials Grant = "client_credentials" // RFC 6749, section 4.4
	RefreshToken      Grant = "refresh_token"      // RFC 6749, section 6
	// RFC 8693.
	TokenExchange Grant = "urn:ietf:params:oauth:grant-type:token-exchange" //nolint:gosec // G101: the name of a grant
	// RFC 7523, section 2.1.
	JWTBearer Grant = "urn:ietf:params:oauth:grant-type:jwt-bearer" //nolint:gosec // G101: the name of a grant
)

// Method is how the broker authenticates as a client, as OpenID Connect Core, section 9, names them.
type Method string

// The methods of authentication.
const (
	None              Method = "none"                // the client ID alone, or nothing at all
	ClientSecretBasic Method = "client_secret_basic" // RFC 6749, section 2.3.1, in a header
	ClientSecretPost  Method = "client_secret_post"  // the same, in the body
	PrivateKeyJWT     Method = "private_key_jwt"     // RFC 7523, section 2.2
)

// Signer makes an ID token of the broker's own identity for an audience. The spec says for which lease
// it is, so that a token can carry the grant's ID; at a revocation the spec is empty.
type Signer func(ctx context.Context, audience string, about issuer.Spec) (cred.Secret, error)

// RS256 has the use of an RSA key, such as one in Vault's transit engine. It returns the signature of a
// JWS signing input as RFC 7518, section 3.3, says, as raw bytes.
type RS256 interface {
	SignRS256(ctx context.Context, signingInput []byte) ([]byte, error)
}

// Loader reads a secret. It is called for each request, so that a changed one is picked up.
type Loader func(ctx context.Context) (cred.Secret, error)

// Sealer encrypts what stands in a handle; a tink.AEAD is one. What one process has encrypted, a later
// one must be able to decrypt.
type Sealer interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Client is who the broker is at the server.
type Client struct {
	Method Method // empty: None
	ID     string
	Secret Loader // for ClientSecretBasic and ClientSecretPost

	// For PrivateKeyJWT one of: a key (*rsa.PrivateKey, *ecdsa.PrivateKey or ed25519.PrivateKey, see
	// ParseKey), an RSA key that is held elsewhere, or a Signer, for servers that take the broker's ID
	// token in its place.
	Key       crypto.PrivateKey
	Transit   RS256
	KeyID     string // kid of the key's public half at the server; empty: none is sent
	Assertion Signer
	Audience  string // of what is signed; empty: the token URL
}

// Config says where the server is and how to ask it.
type Config struct {
	TokenURL      string // https
	RevocationURL string // RFC 7009; empty: tokens can't be revoked
	AllowPlain    bool   // permit http to loopback addresses
	CAFile        string // PEM certificates to trust; empty: the system's

	Grant  Grant
	Client Client

	Subject       Signer // what TokenExchange and JWTBearer show
	SubjectType   string // subject_token_type; empty: urn:ietf:params:oauth:token-type:jwt
	RequestedType string // requested_token_type; empty: the server chooses
	Audience      string // of Subject; empty: the token URL
	Keeper        Keeper // where RefreshToken's refresh token is kept

	NoScopes bool              // the service has none: no scope is sent, and none is looked at
	Life     time.Duration     // the longest of a token: of those of which the server does not say, or whose answer was lost; zero: unknown
	Extra    map[string]string // further parameters of the vendor's
	Header   map[string]string // further headers of the vendor's
	JSON     bool              // send JSON and not a form, as some vendors want

	Seal    Sealer        // needed with RevocationURL
	Timeout time.Duration // for one request; zero: 10 s
}

// Issuer mints at one server. It is an issuer.Issuer, safe for concurrent use.
type Issuer struct {
	cfg   Config
	http  *tokenapi.Client
	owner *owner // of the refresh token; nil for other grants

	flying *flights.Group // requests
}

// New returns an issuer that has asked nothing yet. It fails with kind Invalid where the
// configuration can't work.
func New(cfg Config) (*Issuer, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	h, err := tokenapi.New(opConfig, cfg.CAFile, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	i := &Issuer{cfg: cfg, http: h, flying: flights.New()}
	if cfg.Grant == RefreshToken {
		i.owner = newOwner(cfg.Keeper)
	}
	return i, nil
}

// Close waits for requests that are under way, for no longer than Timeout.
func (i *Issuer) Close() error {
	i.flying.Close(i.cfg.Timeout)
	i.http.HTTP.CloseIdleConnections()
	return nil
}

// Lost returns the end of a token that an attempt may have made, and a note for people; see
// issuer.Unfindable. A client can't ask for a life, and the answer would have told it (RFC 6749, section 5.1),
// so the configured one is the only bound that there is. A request may wait for its turn before it is sent.
func (i *Issuer) Lost(asked time.Time) (notAfter time.Time, note string) {
	const what = "the token server's answer was lost: OAuth lists no tokens, so one that was made can't be revoked and nobody has it; "
	if i.cfg.Life == 0 {
		return time.Time{}, what + "how long it lives is not known, as the issuer is configured without the life of the server's tokens"
	}
	return asked.Add(2*i.cfg.Timeout + i.cfg.Life), what + "it ends by itself, after the life that the issuer is configured with"
}

// Check reads the secrets that the issuer needs and asks the server nothing: a token endpoint has no
// question that makes no token.
func (i *Issuer) Check(ctx context.Context) error {
	if i.cfg.Client.Secret != nil {
		if _, err := i.cfg.Client.Secret(ctx); err != nil {
			return issuer.NotIssued("oauth.check", "", publicSecret, err)
		}
	}
	if i.owner == nil {
		return nil
	}
	release, err := i.owner.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = i.owner.current(ctx)
	return err
}
