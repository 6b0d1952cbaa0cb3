package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// check does the step of that name: a finding that is not well forbids the rotation.
func (b *Broker) check(ctx context.Context, c claim) answer {
	if other, busy, err := b.busyWith(ctx, c.root, c.Rotation); err != nil || busy {
		if busy {
			err = issuerBusy(other)
		}
		return answer{err: err}
	}
	findings, err := b.checkRoot(ctx, c.root, c.Rotation)
	a := answer{findings: findings, err: err}
	for _, f := range findings {
		if err == nil && !f.OK {
			a.err = &cred.Error{
				Kind: cred.Invalid, Op: "rotation.check", Reason: "CHECK_FAILED",
				Public: "the check before forbids it: " + f.Name + ": " + f.Text,
			}
			break
		}
	}
	return a
}

// checkRoot returns what its rotator and the broker find about the rotation of a root.
func (b *Broker) checkRoot(ctx context.Context, root Root, r cred.Rotation) ([]cred.Finding, error) {
	findings, err := root.Rotator.Check(ctx, claim{Rotation: r}.atSource())
	if err != nil {
		return findings, err
	}
	findings = append(slices.Clip(findings), b.users(root))
	live, err := b.leasesUnder(ctx, root, time.Time{})
	if err != nil {
		return findings, err
	}
	text := "no credential lives that it minted"
	if len(live) > 0 {
		text = inWords(live) + "; with old_leases " + string(root.oldLeases()) + " " + whatBecomes[root.oldLeases()]
	}
	findings = append(findings, cred.Finding{Name: "credentials that live", OK: true, Text: text})
	other, busy, err := b.busyWith(ctx, root, r)
	if err != nil {
		return findings, err
	}
	if !busy {
		other = "no other rotation is under way there"
	}
	return append(findings, cred.Finding{Name: "no other rotation", OK: !busy, Text: other}), nil
}

// whatBecomes is looked up only.
var whatBecomes = map[OldLeases]string{
	OldLeasesKeep:   "they live until their own end",
	OldLeasesWait:   "the old root is kept until they have ended",
	OldLeasesRevoke: "they are ended",
}

// users tells what uses a root: the targets that hang on it, and the rules that allow something of them.
func (b *Broker) users(root Root) cred.Finding {
	f := cred.Finding{Name: "who uses it", OK: true, Text: "no target of the configuration"}
	targets := b.targetsOf(root)
	if len(targets) == 0 {
		return f
	}
	var rules []string
	for _, t := range targets {
		rules = append(rules, b.policy.Load().RulesFor(t)...)
	}
	slices.Sort(rules)
	rules = slices.Compact(rules)
	f.Text = fmt.Sprintf("targets: %s; rules: %s", someOf(targets), someOf(rules))
	return f
}

// someOf lists names, at most twenty.
func someOf(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	if n := len(names); n > 20 {
		return strings.Join(names[:20], ", ") + fmt.Sprintf(" and %d more", n-20)
	}
	return strings.Join(names, ", ")
}

func issuerBusy(other string) error {
	return &cred.Error{Kind: cred.Pending, Op: "rotation.check", Reason: "ISSUER_BUSY", Public: "waits for " + other}
}

// busyWith tells which rotation of the same issuer, or of the same root, goes first: one that is past
// its check, or that was asked for earlier.
func (b *Broker) busyWith(ctx context.Context, root Root, r cred.Rotation) (text string, busy bool, err error) {
	err = b.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		text, busy, err = b.busyIn(tx, root, r)
		return err
	})
	return text, busy, err
}

func (b *Broker) busyIn(tx store.Tx, root Root, r cred.Rotation) (text string, busy bool, err error) {
	for other, err := range b.openRotations(tx) {
		if err != nil {
			return "", false, err
		}
		same := other.Root == root.Name || root.Issuer != "" && b.rootOrName(other.Root).Issuer == root.Issuer
		first := other.Step() != cred.StepCheck || other.ID < r.ID
		if other.ID != r.ID && same && first && other.State() == cred.RotationRunning {
			text, busy = fmt.Sprintf("the rotation %s of %s, which is at the step %s", other.ID, other.Root, other.Step()), true
		}
	}
	return text, busy, nil
}

// afterCheck holds a check that was well against what has begun since it looked: of two rotations of an
// issuer that were checked at the same time one waits.
func (b *Broker) afterCheck(tx store.Tx, c claim, end ending, now time.Time) (ending, error) {
	if c.Step() != cred.StepCheck || end.next.Step() != cred.StepPrepare {
		return end, nil
	}
	other, busy, err := b.busyIn(tx, c.root, c.Rotation)
	if err != nil || !busy {
		return end, err
	}
	return endOf(c.Rotation, answer{err: issuerBusy(other)}, now)
}
