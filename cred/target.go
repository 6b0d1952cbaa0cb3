package cred

import "time"

// Delivery says where a minted credential goes.
type Delivery string

// The ways of delivery.
const (
	DeliverDirect Delivery = "direct" // to the caller, in the answer to Exchange
	DeliverProxy  Delivery = "proxy"  // to a companion proxy; the caller gets a grant token
)

// Target is something a caller can ask a credential for, as the configuration defines it.
type Target struct {
	Name       string
	Labels     map[string]string
	Deliver    Delivery
	Credential CredentialSource
	HTTP       *HTTPTarget // set for a target that is spent over HTTP through a proxy
	Mask       MaskSettings
	Quota      Quota
}

// Quota bounds how often grants for a target are made; the zero Quota does not.
type Quota struct {
	PerPrincipal Rate // for each holder
	Total        Rate // for all together
}

// Rate is so many in a time, as a token bucket that holds N and fills in Per. The zero Rate is no
// bound.
type Rate struct {
	N   int
	Per time.Duration
}

// CredentialSource says which issuer mints for a target, and from what.
type CredentialSource struct {
	Issuer string
	Path   string            // where the issuer reads or mints, e.g. "database/creds/orders-ro"
	Params map[string]string // fixed parameters that the issuer understands
	Type   CredentialType    // empty: the issuer tells from what it gets
	Fields map[string]string // renames: our field name to the source's
}

// HTTPTarget says how a proxy spends a credential over HTTP.
type HTTPTarget struct {
	Upstream     string // base URL, http or https, no query, no fragment
	Inject       Injection
	AllowPrivate bool // permit private, loopback and link-local upstream addresses
}

// InjectKind says where in a request the credential goes.
type InjectKind string

// The places of injection. The empty kind follows the credential's type: bearer for Bearer, basic
// for UserPassword.
const (
	InjectBearer InjectKind = "bearer" // Authorization: Bearer VALUE
	InjectBasic  InjectKind = "basic"  // Authorization: Basic base64(username:password)
	InjectHeader InjectKind = "header" // Name: Prefix VALUE
	InjectQuery  InjectKind = "query"  // ?Name=VALUE
)

// Injection says how a credential is put into a request.
type Injection struct {
	Kind   InjectKind
	Name   string // header or query parameter, for InjectHeader and InjectQuery
	Prefix string // put before the value, for InjectHeader
	Field  string // which field of the credential; empty: "token", else the only one
}

// MaskSettings says what a proxy masks in answers, besides the credentials that it injected, which
// it always masks.
type MaskSettings struct {
	Detectors []string // "secrets", "pii", or single detectors by name
}
