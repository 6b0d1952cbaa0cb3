package kv

import (
	"context"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Probe uses a credential; kind Denied says that it was refused.
type Probe func(ctx context.Context, c cred.Credential) error

// ProbePostgres returns a Probe that logs in with the credential's username and password and runs
// SELECT 1. The address is as in Postgres.Address.
func ProbePostgres(address string, allowPlain bool) (Probe, error) {
	db, err := openDatabase(address, allowPlain)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c cred.Credential) error {
		return db.try(ctx, c.Fields["username"].RevealString(), c.Fields["password"])
	}, nil
}

// ProbeCommand returns a Probe that runs a command's act verify, with the credential's fields as new.
func ProbeCommand(c Command) (Probe, error) {
	opener, err := c.Open()
	if err != nil {
		return nil, err
	}
	run := opener.(*command)
	return func(ctx context.Context, c cred.Credential) error {
		_, err := run.run(ctx, actVerify, issuer.Rotation{Attempt: 1}, nil, c.Fields)
		return err
	}, nil
}
