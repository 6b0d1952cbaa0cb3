package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// child is a lease's own token, kept in memory from Reserve until Issue spends it.
type child struct {
	id     cred.LeaseID
	token  cred.Secret
	handle handle
	end    time.Time // by our clock, rather early than late
	note   string    // what may end it before that
}

// Reserve makes the token that Issue will mint with, and returns a handle by which everything that
// is minted with it can be revoked. The handle is empty for a path whose values stand, such as a
// key-value store's: nothing is made there and nothing can be revoked.
func (i *Issuer) Reserve(ctx context.Context, spec issuer.Spec) (string, error) {
	src, err := i.source(ctx, spec)
	if err != nil {
		return "", err
	}
	if src.kv() {
		return "", checkNotEnded(spec)
	}
	c, err := i.newChild(ctx, spec, src)
	if err != nil {
		return "", err
	}
	i.keep(c)
	return c.handle.String(), nil
}

// newChild creates a lease's token. Its life is cut to whole seconds and counted from before it is
// created, so that it ends no later than asked. A try whose answer was lost leaves a token that
// nobody holds and that ends by itself.
func (i *Issuer) newChild(ctx context.Context, spec issuer.Spec, src source) (child, error) {
	s, err := i.broker.coveringUntil(ctx, spec.NotAfter)
	if err != nil {
		return child{}, err
	}
	var asked time.Time
	var life time.Duration
	if time.Until(spec.NotAfter) < time.Second {
		return child{}, errEnded
	}
	answer, err := i.asBroker(ctx, request{method: "POST", path: i.createPath(), remake: func() map[string]any {
		asked = time.Now()
		life = max(spec.NotAfter.Sub(asked).Truncate(time.Second), time.Second)
		return childBody(spec, life)
	}})
	if err != nil {
		return child{}, harmless("vault.reserve", err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" || answer.Auth.Accessor == "" {
		return child{}, notIssued("vault.reserve", "Vault gave the broker no token for this lease; a batch token role does that, use service tokens", errors.New("vault: no token or accessor in the answer"))
	}
	c := child{
		id: spec.ID, token: cred.SecretString(answer.Auth.ClientToken),
		handle: handle{Accessor: answer.Auth.Accessor, Path: src.req.path, Engine: src.engine, TTL: askedTTL(src.want.Params)},
		end:    asked.Add(min(life, time.Duration(answer.Auth.LeaseDuration)*time.Second)),
	}
	if !answer.Auth.Orphan {
		c.hangOn(s)
	}
	c.handle.End = c.end.Unix()
	return c, nil
}

// hangOn bounds a child by the token that it descends from, which it can't outlive.
func (c *child) hangOn(s *session) {
	end := s.end()
	if end.IsZero() || !end.Before(c.end) {
		return
	}
	if s.endless() {
		c.note = "may end early: it depends on the broker's Vault token, which nobody renews once the broker has stopped or signed in anew, and which then ends within its period"
		return
	}
	c.end = end
}

func (i *Issuer) createPath() string {
	if i.cfg.TokenRole != "" {
		return "auth/token/create/" + i.cfg.TokenRole
	}
	return "auth/token/create"
}

// childBody asks for a token that can do what the issuer's can, but ends with the lease. Vault's own
// audit log shows the meta data, so that both logs can be joined.
func childBody(spec issuer.Spec, life time.Duration) map[string]any {
	return map[string]any{
		"ttl": life.String(), "explicit_max_ttl": life.String(), "renewable": false,
		"no_default_policy": true, "type": "service",
		"display_name": "daypass-" + strings.TrimPrefix(string(spec.ID), "le_"),
		"meta":         map[string]string{"daypass_grant": string(spec.Grant), "daypass_lease": string(spec.ID)},
	}
}

// keep puts a child aside for Issue, and drops those that have ended unused.
func (i *Issuer) keep(c child) {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	for accessor, old := range i.children {
		if now.After(old.end) {
			delete(i.children, accessor)
		}
	}
	i.children[c.handle.Accessor] = c
}

// take hands a child out, once.
func (i *Issuer) take(spec issuer.Spec) (child, error) {
	h, err := parseHandle(spec.Handle)
	if err != nil {
		return child{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.children[h.Accessor]
	if !ok || c.id != spec.ID {
		return child{}, &cred.Error{
			Kind: cred.Unavailable, Op: "vault.issue", Reason: "RESERVATION_UNKNOWN",
			Public: "this lease's reservation was used already or belongs to a broker that has ended; what it may have made is being taken back, try again",
			Err:    errors.New("vault: no token is held for the handle"),
		}
	}
	delete(i.children, h.Accessor)
	return c, nil
}

var errEnded = &cred.Error{Kind: cred.Invalid, Op: "vault.reserve", Reason: "ENDED", Public: "less than a second is left of what was granted; ask for a new grant"}

// checkNotEnded refuses what has ended already.
func checkNotEnded(spec issuer.Spec) error {
	if time.Until(spec.NotAfter) <= 0 {
		return errEnded
	}
	return nil
}
