package main

import (
	"context"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// roots are one that rotates, one that can't, one that does not work once it has been switched, and one
// that others have to agree to.
func roots() []broker.Root {
	return []broker.Root{
		{Name: "orders-root", Issuer: "mint", Targets: []string{"orders"}, Rotator: rotator{}},
		{Name: "full-root", Issuer: "mint", Targets: []string{"buckets"}, Rotator: rotator{
			finding: cred.Finding{Name: "one access key", Text: "there are two; delete the one that nobody uses"},
		}},
		{Name: "dead-root", Issuer: "mint", Targets: []string{"registry"}, Rotator: rotator{
			verify: &cred.Error{Kind: cred.Invalid, Public: "the new root is refused by its source"},
		}},
		{
			Name: "careful-root", Issuer: "mint", Targets: []string{"regional"}, Rotator: rotator{},
			Demand: &cred.Demand{AllOf: []cred.Quorum{{Group: "guards", Count: 1}}, Within: time.Hour},
		},
	}
}

// rotator is a root that can be put back.
type rotator struct {
	finding cred.Finding
	verify  error
}

func (r rotator) Check(context.Context, issuer.Rotation) ([]cred.Finding, error) {
	if r.finding.Name != "" {
		return []cred.Finding{r.finding}, nil
	}
	return []cred.Finding{
		{Name: "one access key", OK: true, Text: "there is one"},
		{Name: "nobody else uses it", OK: true, Open: true, Text: "not looked at"},
	}, nil
}

func (rotator) Prepare(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) {
	j.Old, j.New = "key-1", "key-2"
	return j, nil
}

func (rotator) Switch(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) { return j, nil }

func (r rotator) Verify(context.Context, issuer.Rotation) error { return r.verify }

func (rotator) Retire(_ context.Context, j issuer.Rotation) (issuer.Rotation, error) { return j, nil }

func (rotator) Undo(context.Context, issuer.Rotation) error { return nil }

// awaitRotation waits until a rotation is over, and checks how it ended.
func awaitRotation(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	token := cred.SecretString(w.idp.Sign(w.idp.PersonClaims(w.url, "watcher", "audit")))
	client, err := sdk.Dial(w.url, sdk.StaticToken(token), nil)
	ts.Check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var state string
	ts.Check(client.WatchRotation(ctx, cred.RotationID(args[0]), func(r *pb.Rotation) error { state = r.GetState(); return nil }))
	if state != args[1] {
		ts.Fatalf("the rotation is %s", state)
	}
}
