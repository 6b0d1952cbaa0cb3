package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// OldLeases says what becomes of the credentials that an old root minted.
type OldLeases string

// What can become of them. Whichever it is, a root is not retired before the instant that its Rotator
// names.
const (
	OldLeasesKeep   OldLeases = "keep"   // they live until their own end, as far as their source lets them
	OldLeasesWait   OldLeases = "wait"   // the old root is kept until they have ended
	OldLeasesRevoke OldLeases = "revoke" // they are ended; what their source can't end is waited for
)

// Root is a root credential that the broker can replace by another.
type Root struct {
	Name    string
	Rotator issuer.Rotator
	// Issuer is the issuer whose root it is; empty for one of the broker's own.
	Issuer string
	// Targets are those whose credentials hang on it; nil means those of Issuer, where Rotator is an
	// issuer.Scoped those that it covers.
	Targets []string
	// Demand is whose agreement each rotation needs; nil: nobody's.
	Demand *cred.Demand
	// Schedule returns when a rotation is due after the last one ended; zero: never. last is zero for a
	// root that was never rotated. It is asked again and again and may look at the clock: where what it
	// named has passed in vain, such as a window, it names the next one. Nil: no schedule.
	Schedule func(last time.Time) (due time.Time)
	// OldLeases is OldLeasesKeep where it is empty.
	OldLeases OldLeases
}

// RootStatus is how a root stands.
type RootStatus struct {
	Name, Issuer string
	Targets      []string
	Last         *cred.Rotation // nil: none yet
	DueAt        time.Time      // when its schedule rotates it; zero: it has none
}

// rotationTarget is what the target of a request for the approval of a rotation begins with. No target
// of a policy has such a name, so nothing is ever issued for it.
const rotationTarget = "rotation:"

// isForRotation reports whether a grant stands for the approval of a rotation.
func isForRotation(g cred.Grant) bool { return strings.HasPrefix(g.Want.Target, rotationTarget) }

// checkRoots refuses roots that no rotation could work with.
func (c Config) checkRoots() error {
	if len(c.Roots) > 0 && c.Sign == nil {
		return errors.New("broker: there are roots to rotate, and nothing that signs receipts")
	}
	names := map[string]bool{}
	for _, root := range c.Roots {
		switch {
		case !policy.ValidName(root.Name) || names[root.Name]:
			return fmt.Errorf("broker: the root %q has no name, or that of another one", root.Name)
		case root.Rotator == nil:
			return fmt.Errorf("broker: the root %q has nothing that rotates it", root.Name)
		case root.Demand != nil && len(root.Demand.AllOf)+len(root.Demand.AnyOf) == 0:
			return fmt.Errorf("broker: the approval of the root %q asks nobody", root.Name)
		case !slices.Contains([]OldLeases{"", OldLeasesKeep, OldLeasesWait, OldLeasesRevoke}, root.OldLeases):
			return fmt.Errorf("broker: the root %q has old leases that are to be %q", root.Name, root.OldLeases)
		}
		names[root.Name] = true
	}
	return nil
}

// root returns a root by its own name.
func (b *Broker) root(name string) (Root, bool) {
	i := slices.IndexFunc(b.cfg.Roots, func(r Root) bool { return r.Name == name })
	if i < 0 {
		return Root{}, false
	}
	return b.cfg.Roots[i], true
}

// rootFor returns a root by its name, or by that of an issuer or a target that has exactly one.
func (b *Broker) rootFor(name string) (Root, error) {
	if root, ok := b.root(name); ok {
		return root, nil
	}
	var found []Root
	var names []string
	for _, root := range b.cfg.Roots {
		if root.Issuer == name || slices.Contains(b.targetsOf(root), name) {
			found, names = append(found, root), append(names, root.Name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Root{}, &cred.Error{
			Kind: cred.NotFound, Op: "rotation", Reason: "ROOT_UNKNOWN",
			Public: "there is no root of this name, and no issuer or target of it that has one; 'daypass rotations roots' lists them",
		}
	}
	return Root{}, &cred.Error{
		Kind: cred.Invalid, Op: "rotation", Reason: "ROOT_AMBIGUOUS",
		Public: "several roots belong to this name; say which: " + strings.Join(names, ", "),
	}
}

// targetsOf returns the targets whose credentials hang on a root, as the policy in force has them.
func (b *Broker) targetsOf(root Root) []string {
	if root.Targets != nil {
		return slices.Clone(root.Targets)
	}
	var names []string
	for _, t := range b.policy.Load().Targets() {
		if root.covers(t) {
			names = append(names, t.Name)
		}
	}
	return names
}

// covers reports whether the credentials of a target hang on a root that names no targets.
func (r Root) covers(t cred.Target) bool {
	if r.Issuer == "" || t.Credential.Issuer != r.Issuer {
		return false
	}
	some, ok := r.Rotator.(issuer.Scoped)
	return !ok || some.Covers(t.Credential.Path)
}
