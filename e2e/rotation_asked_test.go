package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// TestRotationNeedsTwo has a root that two of the security people must agree about: not the one who
// asks, and no one of them alone.
func TestRotationNeedsTwo(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "log_key: {}, approval: { all_of: [{ group: security, count: 2 }], within: 30m }")
	asks := c.as(c.member("security", "security"))
	r, err := asks.Rotate(t.Context(), "own", "the last admin has left")
	if err != nil || r.GetState() != string(cred.RotationPending) {
		t.Fatalf("asked: %v, %v", r, err)
	}
	id := cred.GrantID(r.GetRequestId())
	request, err := asks.Request(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asks.Review(t.Context(), id, request.GetDigest(), cred.Verdict{Approve: true}); err == nil {
		t.Error("who asked can approve")
	}
	c.review("gus", "security", id, true)
	lea := c.as(c.member("lea", "leads"))
	if _, err := lea.Review(t.Context(), id, request.GetDigest(), cred.Verdict{Approve: true}); err == nil {
		t.Error("somebody who is not of security can approve")
	}
	_, _ = c.as(c.member("gus", "security")).Review(t.Context(), id, request.GetDigest(), cred.Verdict{Approve: true}) // counts once
	c.broker.kill()
	c.startBroker(upstreamEnv)
	if r, err = c.as(c.person("security")).Rotation(t.Context(), cred.RotationID(r.GetId())); err != nil || r.GetState() != string(cred.RotationPending) {
		t.Fatalf("with one approval: %v, %v", r, err)
	}
	c.review("hal", "security", id, true)
	if r, err = c.watch(t.Context(), r); err != nil || r.GetState() != string(cred.RotationDone) {
		t.Fatalf("with two approvals: %v, %v", r, err)
	}
	text, err := audit.OpenReceipt([]byte(r.GetReceipt()), r.GetNewName())
	for _, who := range []string{"security", "gus", "hal"} {
		if err != nil || !strings.Contains(text, who) {
			t.Errorf("the receipt does not name %s: %v\n%s", who, err, text)
		}
	}
	var approvers []string
	for _, e := range c.export() {
		if e.Kind == audit.ExchangeGranted && e.Grant == id {
			for _, a := range e.Approvals {
				approvers = append(approvers, a.By.Subject)
			}
		}
	}
	if slices.Sort(approvers); !slices.Equal(approvers, []string{"gus", "hal"}) {
		t.Errorf("the log says that %q agreed", approvers)
	}
}

// TestRotationBySchedule has a root that was never rotated: it is rotated at once, nobody asking, and not
// again after a restart.
func TestRotationBySchedule(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "log_key: {}, schedule: { every: 1h }")
	sec := c.as(c.person("security"))
	var r *pb.Rotation
	eventually(t, "a rotation is done", func() error {
		all, err := sec.Rotations(t.Context(), 0)
		if err != nil || len(all) != 1 || all[0].GetState() != string(cred.RotationDone) {
			return fmt.Errorf("there are %v, %w", all, err)
		}
		r = all[0]
		return nil
	})
	if by := r.GetBy(); by.GetProvider() != "daypass" || by.GetSubject() != "schedule" {
		t.Errorf("asked by %v", by)
	}
	c.broker.kill()
	c.startBroker(upstreamEnv)
	roots, err := sec.Roots(t.Context())
	if err != nil || len(roots) != 1 {
		t.Fatal(roots, err)
	}
	if due := roots[0].GetDueTime().AsTime(); !due.Equal(r.GetEndTime().AsTime().Add(time.Hour)) {
		t.Errorf("due at %s, want an hour after %s", due, r.GetEndTime().AsTime())
	}
	if all, err := sec.Rotations(t.Context(), 0); err != nil || len(all) != 1 {
		t.Errorf("after a restart: %v, %v", all, err)
	}
	c.export()
}
