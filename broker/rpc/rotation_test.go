package rpc_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// rotator is a root whose acts succeed at once; its notes are a secret.
type rotator struct{ forbidden bool }

var rotatorSecret = "root-" + strings.Repeat("s3cr3t", 4)

func (r *rotator) Check(context.Context, issuer.Rotation) ([]cred.Finding, error) {
	return []cred.Finding{{Name: "one access key", OK: !r.forbidden, Text: "there is one"}}, nil
}

func (r *rotator) Prepare(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) {
	j.Old, j.New = "key-1", "key-2"
	j.Notes = map[string]cred.Secret{"password": cred.SecretString(rotatorSecret)}
	return j, nil
}

func (r *rotator) Switch(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) {
	return j, nil
}

func (r *rotator) Verify(context.Context, issuer.Rotation) error { return nil }

func (r *rotator) Retire(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) {
	return j, nil
}

func (r *rotator) Undo(context.Context, issuer.Rotation) error { return nil }

func (w *world) security() *sdk.Client { return w.as(w.token("sec", "security")) }

func TestRotationOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	stop := w.run(t)
	defer stop()
	sec := w.security()
	begun, err := sec.Rotate(t.Context(), "mint", "the last admin has left") // by the issuer's name
	must(t, err)
	if begun.GetRoot() != "orders-root" || begun.GetBy().GetSubject() != "sec" || begun.GetReason() != "the last admin has left" {
		t.Errorf("began %v", begun)
	}
	var last *pb.Rotation
	must(t, sec.WatchRotation(t.Context(), cred.RotationID(begun.GetId()), func(r *pb.Rotation) error { last = r; return nil }))
	if last.GetState() != "done" || last.GetEndTime() == nil || last.GetSwitchTime() == nil {
		t.Fatalf("ended as %v", last)
	}
	got, err := w.as(w.token("aud", "audit")).Rotation(t.Context(), cred.RotationID(begun.GetId()))
	must(t, err)
	text, err := audit.OpenReceipt([]byte(got.GetReceipt()), w.raw.Log().VerifierKey())
	must(t, err)
	for _, part := range []string{begun.GetId(), "orders-root", "key-1", "key-2"} {
		if !strings.Contains(text, part) {
			t.Errorf("the receipt lacks %s:\n%s", part, text)
		}
	}
	if all := got.String() + w.logs.String(); strings.Contains(all, rotatorSecret) {
		t.Error("the root's notes left the broker")
	}
	if !slices.ContainsFunc(got.GetFindings(), func(f *pb.Finding) bool { return f.GetName() == "one access key" && f.GetOk() }) {
		t.Errorf("the findings are %v", got.GetFindings())
	}
	listed, err := sec.Rotations(t.Context(), 0)
	must(t, err)
	if len(listed) != 1 || listed[0].GetId() != begun.GetId() || listed[0].GetReceipt() != "" {
		t.Errorf("listed %v", listed)
	}
	roots, err := sec.Roots(t.Context())
	must(t, err)
	if len(roots) != 2 || roots[0].GetLast().GetId() != begun.GetId() || roots[1].GetLast() != nil || roots[0].GetDueTime() != nil {
		t.Errorf("the roots are %v", roots)
	}
}

func TestRotationThatWaitsForApproval(t *testing.T) {
	w := newWorld(t, settings{})
	stop := w.run(t)
	defer stop()
	begun, err := w.security().Rotate(t.Context(), "api-root", "yearly")
	must(t, err)
	if begun.GetState() != "pending" || begun.GetRequestId() == "" {
		t.Fatalf("began %v", begun)
	}
	lead := w.lead()
	request, err := lead.Request(t.Context(), cred.GrantID(begun.GetRequestId()))
	must(t, err)
	_, err = lead.Review(t.Context(), cred.GrantID(begun.GetRequestId()), request.GetDigest(), cred.Verdict{Approve: true})
	must(t, err)
	var last *pb.Rotation
	must(t, w.security().WatchRotation(t.Context(), cred.RotationID(begun.GetId()), func(r *pb.Rotation) error { last = r; return nil }))
	if last.GetState() != "done" {
		t.Errorf("ended as %v", last)
	}
}

func TestCheckRotationOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	w.rotator.forbidden = true
	r, err := w.security().CheckRotation(t.Context(), "orders-root")
	must(t, err)
	if r.GetOk() || r.GetRoot() != "orders-root" || len(w.events(audit.RotationStep)) != 2 {
		t.Errorf("checked %v", r)
	}
	w.rotator.forbidden = false
	if r, err = w.security().CheckRotation(t.Context(), "orders-root"); err != nil || !r.GetOk() {
		t.Errorf("checked %v, %v", r, err)
	}
}

func TestWhoMayRotate(t *testing.T) {
	w := newWorld(t, settings{})
	ann, auditor := w.member(), w.as(w.token("aud", "audit"))
	for name, call := range map[string]func(c *sdk.Client) error{
		"rotate": func(c *sdk.Client) error { _, err := c.Rotate(t.Context(), "orders-root", ""); return err },
		"check":  func(c *sdk.Client) error { _, err := c.CheckRotation(t.Context(), "orders-root"); return err },
	} {
		for who, c := range map[string]*sdk.Client{"a member": ann, "an auditor": auditor} {
			if err := call(c); err == nil || cred.KindOf(err) != cred.Denied {
				t.Errorf("%s by %s: %v", name, who, err)
			}
		}
	}
	for name, call := range map[string]func(c *sdk.Client) error{
		"list":  func(c *sdk.Client) error { _, err := c.Rotations(t.Context(), 0); return err },
		"roots": func(c *sdk.Client) error { _, err := c.Roots(t.Context()); return err },
	} {
		if err := call(ann); err == nil || cred.KindOf(err) != cred.Denied {
			t.Errorf("%s by a member: %v", name, err)
		}
		must(t, call(auditor))
	}
	if _, err := auditor.Rotation(t.Context(), "rot_unknown"); err == nil || cred.KindOf(err) != cred.NotFound {
		t.Errorf("an unknown rotation: %v", err)
	}
	if all := w.events(audit.AccessDenied); len(all) != 6 {
		t.Errorf("%d refusals are recorded, want 6", len(all))
	}
}

// run runs the broker's background until it is stopped.
func (w *world) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.broker.Run(ctx) }()
	return func() { cancel(); must(t, <-done) }
}
