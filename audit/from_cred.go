package audit

import (
	"errors"

	"github.com/daypass-io/daypass/cred"
)

// PrincipalOf returns a principal as the log keeps it.
func PrincipalOf(p cred.Principal) *Principal {
	out := &Principal{
		Provider: p.Provider, Issuer: p.Issuer, Subject: p.Subject, Name: p.Name,
		Kind: p.Kind, Groups: p.Groups, Claims: p.Claims, Cautions: p.Cautions,
	}
	if p.Actor != nil {
		out.Actor = PrincipalOf(*p.Actor)
	}
	return out
}

// RequestOf returns a request as the log keeps it.
func RequestOf(r cred.Request, digest cred.Digest) *Request {
	return &Request{
		Target: r.Target, Scopes: r.Scopes, Params: r.Params,
		TTLSeconds: int64(r.TTL.Seconds()), Reason: r.Reason, Binding: string(r.Binding), Digest: digest.String(),
	}
}

// ApprovalsOf returns verdicts as the log keeps them.
func ApprovalsOf(all ...cred.Approval) []Approval {
	out := make([]Approval, len(all))
	for i, a := range all {
		out[i] = Approval{
			By: *PrincipalOf(a.By), Groups: a.Groups, Approve: a.Verdict.Approve, Comment: a.Verdict.Comment,
			Digest: a.Digest.String(), At: a.At, Standing: a.Standing,
		}
	}
	return out
}

// LeaseOf returns a lease as the log keeps it: fingerprints in place of the handle.
func LeaseOf(l cred.Lease) *Lease {
	out := &Lease{
		ID: l.ID, Redeemer: l.Redeemer, Issuer: l.Issuer, SecretFingerprint: l.Fingerprint.String(),
		State: string(l.State()), Revocable: l.Revocable, NotAfter: l.NotAfter, Note: l.Note,
	}
	if l.Handle != "" {
		out.HandleFingerprint = cred.SecretString(l.Handle).Fingerprint().String()
	}
	return out
}

// ErrorOf returns an error as the log keeps it: its kind and public text, never its cause.
func ErrorOf(err error) *Error {
	out := &Error{Kind: cred.KindOf(err).String(), Public: cred.PublicText(err)}
	if e, ok := errors.AsType[*cred.Error](err); ok {
		out.Reason = e.Reason
	}
	return out
}
