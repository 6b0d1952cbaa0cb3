package audit

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Kind names what happened, as subject.verb. Kinds are never renamed: old entries can't be mended.
type Kind string

// The kinds of event.
const (
	ExchangeGranted Kind = "exchange.granted" // policy allowed; the grant is active
	ExchangePending Kind = "exchange.pending" // policy allows it if people agree; they are asked
	ExchangeDenied  Kind = "exchange.denied"  // policy, or a limit, refused
	IdentityRefused Kind = "identity.refused" // no valid identity was shown
	AccessDenied    Kind = "access.denied"    // a known principal called what its role does not allow

	RequestReviewed  Kind = "request.reviewed"  // an approver gave a verdict
	ReviewRefused    Kind = "review.refused"    // somebody gave a verdict that does not count
	ReviewSignedOff  Kind = "review.signed_off" // somebody looked at a grant that was given without approval
	ReviewOverdue    Kind = "review.overdue"    // nobody did in time
	StandingProposed Kind = "standing.proposed" // an approval for requests to come was drafted
	StandingReviewed Kind = "standing.reviewed" // an approver gave a verdict on it
	StandingRevoked  Kind = "standing.revoked"

	LockSet    Kind = "lock.set"    // nothing is granted or redeemed for what is locked
	LockLifted Kind = "lock.lifted" // it is again

	NoticeSent   Kind = "notice.sent"   // somebody was told
	NoticeFailed Kind = "notice.failed" // somebody could not be told, and no further try is made

	RedeemRefused Kind = "redeem.refused" // a grant token was not honoured
	LeaseIntent   Kind = "lease.intent"   // about to ask the issuer
	LeaseIssued   Kind = "lease.issued"
	LeaseRenewing Kind = "lease.renewing" // about to ask its source to let it live longer
	LeaseRenewed  Kind = "lease.renewed"  // its source lets it live longer
	LeaseFailed   Kind = "lease.failed"   // the issuer is sure that nothing was made
	LeaseRevoking Kind = "lease.revoking"
	LeaseRevoked  Kind = "lease.revoked"
	LeaseExpired  Kind = "lease.expired"
	LeaseUnknown  Kind = "lease.unknown" // may exist, can't be revoked

	LeaseNotRenewed Kind = "lease.not_renewed" // its source renews it no more; it ends by itself
	LeaseMissing    Kind = "lease.missing"     // its source has it no more, and nobody here ended it
	LeaseStray      Kind = "lease.stray"       // a source has credentials that no lease here is of
	LeaseDoubted    Kind = "lease.doubted"     // a source's list lacks so many leases that it is not believed

	// Of credentials that the broker mints for itself, under no grant.
	OwnIntent   Kind = "own.intent" // about to ask the issuer
	OwnIssued   Kind = "own.issued"
	OwnFailed   Kind = "own.failed"   // the issuer is sure that nothing was made
	OwnUnknown  Kind = "own.unknown"  // it exists, or may, and nobody has it
	OwnRevoking Kind = "own.revoking" // about to ask its source to end it
	OwnRevoked  Kind = "own.revoked"  // its source has ended it before its time

	AlarmRaised Kind = "alarm.raised" // somebody may have had a credential that is not theirs

	GrantRevoked Kind = "grant.revoked"
	GrantExpired Kind = "grant.expired"

	UseBegin   Kind = "use.begin"   // recorded before anything is forwarded
	UseEnd     Kind = "use.end"     // what came back
	UseRefused Kind = "use.refused" // nothing was forwarded
	UseLost    Kind = "use.lost"    // begun, and the proxy ended before its end was recorded

	RotationStep Kind = "rotation.step"

	AuditExported Kind = "audit.exported" // somebody took a copy of the log, or of a part of it

	BrokerStarted Kind = "broker.started"
	ProxyStarted  Kind = "proxy.started"
	PolicyLoaded  Kind = "policy.loaded"
	PolicyRefused Kind = "policy.refused" // a changed rule set has mistakes; the one before stays in force
	KeyRotated    Kind = "key.rotated"
)

// Event is one thing that happened, complete enough to be understood alone. Every part but Kind and
// Time is optional; absent parts are left out of the canonical form.
type Event struct {
	Kind      Kind           `json:"kind"`
	Time      time.Time      `json:"time"`             // UTC
	Origin    *Origin        `json:"origin,omitempty"` // set where the entry was first written by another log
	Grant     cred.GrantID   `json:"grant,omitempty"`
	Principal *Principal     `json:"principal,omitempty"`
	Request   *Request       `json:"request,omitempty"`
	Decision  *Decision      `json:"decision,omitempty"`
	Approvals []Approval     `json:"approvals,omitempty"`
	Lease     *Lease         `json:"lease,omitempty"`
	Use       *Use           `json:"use,omitempty"`
	Rotation  *Rotation      `json:"rotation,omitempty"`
	Error     *Error         `json:"error,omitempty"`
	Peer      string         `json:"peer,omitempty"`   // the network address that called
	Detail    map[string]any `json:"detail,omitempty"` // facts of a kind that has no part of its own; JSON values
}

// Origin names the log and the sequence number where an entry was first written.
type Origin struct {
	Log string `json:"log"` // the log's origin line, e.g. "daypass-proxy/edge-1"
	Seq uint64 `json:"seq"`
}

// ProxyOrigin is what the origin of a proxy's log begins with; what follows it tells one log file of
// that proxy from the next.
func ProxyOrigin(proxy string) string { return "daypass-proxy/" + proxy + "/" }

// Principal is who it was, with the claims that rules may read.
type Principal struct {
	Provider string             `json:"provider"`
	Issuer   string             `json:"issuer"`
	Subject  string             `json:"subject"`
	Name     string             `json:"name,omitempty"`
	Kind     cred.PrincipalKind `json:"kind,omitempty"`
	Groups   []string           `json:"groups,omitzero"` // absent: unknown, which is not none
	Claims   map[string]any     `json:"claims,omitempty"`
	Actor    *Principal         `json:"actor,omitempty"`
	Cautions map[string]string  `json:"cautions,omitempty"` // claim values that a rule must name
}

// Request is what was asked, and its digest.
type Request struct {
	Target     string            `json:"target"`
	Scopes     []string          `json:"scopes,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	TTLSeconds int64             `json:"ttl_seconds,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Binding    string            `json:"binding,omitempty"` // "dpop" or "mtls": bound to the caller's key
	Digest     string            `json:"digest"`            // SHA-256, hex
}

// Decision is what policy said.
type Decision struct {
	Allowed    bool   `json:"allowed"`
	Rule       string `json:"rule,omitempty"`
	PolicyHash string `json:"policy_hash"` // SHA-256 of the rule set, hex
	Reason     string `json:"reason,omitempty"`
	Condition  string `json:"condition,omitempty"` // the claim or condition that failed

	// Demand is whose approval is needed; Exempt is why none is although the rule has one: "standing/"
	// and the ID of a standing approval, "on_call/" and the schedule's name, or "break_glass".
	Demand *cred.Demand `json:"demand,omitempty"`
	Exempt string       `json:"exempt,omitempty"`
}

// Approval is one person's verdict.
type Approval struct {
	By       Principal `json:"by"`
	Groups   []string  `json:"groups,omitempty"` // of those that were asked, the ones that By is in
	Approve  bool      `json:"approve"`
	Comment  string    `json:"comment,omitempty"`
	Digest   string    `json:"digest"`
	At       time.Time `json:"at"`
	Standing string    `json:"standing,omitempty"` // the standing approval that it comes from
}

// Lease is one credential, by fingerprints alone.
type Lease struct {
	ID                cred.LeaseID `json:"id"`
	Redeemer          string       `json:"redeemer,omitempty"` // "holder", "proxy/" and the proxy's name, or "broker"
	Issuer            string       `json:"issuer"`
	HandleFingerprint string       `json:"handle_fingerprint,omitempty"` // SHA-256 of the source's handle, hex
	SecretFingerprint string       `json:"secret_fingerprint,omitempty"` // SHA-256 of the credential, hex
	State             string       `json:"state"`
	Revocable         bool         `json:"revocable"`
	NotAfter          time.Time    `json:"not_after,omitzero"`
	Note              string       `json:"note,omitempty"`
}

// Use is one use of a credential through a proxy. Bodies are never recorded.
type Use struct {
	ID         cred.UseID `json:"id"`
	Proxy      string     `json:"proxy,omitempty"`
	Protocol   string     `json:"protocol,omitempty"` // "http", "postgres", "redis"
	Method     string     `json:"method,omitempty"`
	Host       string     `json:"host,omitempty"`
	Path       string     `json:"path,omitempty"` // without the query
	Status     int        `json:"status,omitempty"`
	BytesIn    int64      `json:"bytes_in,omitempty"`  // request body, bytes from the client
	BytesOut   int64      `json:"bytes_out,omitempty"` // answer body, bytes to the client
	DurationMS int64      `json:"duration_ms,omitempty"`
	Masked     []Masked   `json:"masked,omitempty"`
	Rule       string     `json:"rule,omitempty"`  // the rule that refused
	Ended      string     `json:"ended,omitempty"` // how: "complete", "client_gone", "upstream_error", "revoked", "expired"
}

// Masked counts what one detector masked.
type Masked struct {
	Detector string `json:"detector"`
	Count    int    `json:"count"`
}

// Rotation is one step of a root credential's rotation.
type Rotation struct {
	ID                string `json:"id"`
	Issuer            string `json:"issuer"`
	Step              string `json:"step"`
	SecretFingerprint string `json:"secret_fingerprint,omitempty"`
}

// Error is what went wrong: its kind and its public text, never an inner error's.
type Error struct {
	Kind   string `json:"kind"`
	Reason string `json:"reason,omitempty"`
	Public string `json:"public,omitempty"`
}
