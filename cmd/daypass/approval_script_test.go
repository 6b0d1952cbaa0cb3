package main

import (
	"context"
	"errors"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// awaitRequest waits until a request with a reason is there, and sets a variable to its ID.
func awaitRequest(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	token := cred.SecretString(w.idp.Sign(w.idp.PersonClaims(w.url, "watcher", "audit")))
	client, err := sdk.Dial(w.url, sdk.StaticToken(token), nil)
	ts.Check(err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	found := errors.New("found")
	err = client.WatchRequests(ctx, func(r *pb.AccessRequest) error {
		if r.GetGrant().GetReason() != args[0] {
			return nil
		}
		ts.Setenv(args[1], r.GetGrant().GetId())
		return found
	})
	if !errors.Is(err, found) {
		ts.Fatalf("no request came: %v", err)
	}
}

// until sets a variable to an instant so far from now.
func until(ts *testscript.TestScript, _ bool, args []string) {
	d, err := time.ParseDuration(args[1])
	ts.Check(err)
	ts.Setenv(args[0], time.Now().Add(d).UTC().Format(time.RFC3339))
}
