package kv

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// postgresPair is the Opener of two roles that take turns.
type postgresPair struct{ postgres }

// other returns the role whose turn is next.
func (p *postgresPair) other(v Values) (string, error) {
	role, _ := p.login(v)
	switch role {
	case p.Roles[0]:
		return p.Roles[1], nil
	case p.Roles[1]:
		return p.Roles[0], nil
	}
	return "", &cred.Error{
		Kind: cred.Invalid, Op: "postgres.roles", Reason: "ROLE_UNKNOWN",
		Public: "the secret in Vault names a user that is none of the two configured roles",
	}
}

// Next makes a password for the other role.
func (p *postgresPair) Next(_ context.Context, _ issuer.Rotation, current Values) (Values, error) {
	role, err := p.other(current)
	if err != nil {
		return nil, err
	}
	return Values{p.UsernameField: cred.SecretString(role), p.PasswordField: newPassword()}, nil
}

// Change gives the other role its password, logs in with it, and only then writes to KV: what stands
// there works at every instant.
func (p *postgresPair) Change(ctx context.Context, _ issuer.Rotation, from, to Values, put Put) (Values, error) {
	role, password := p.login(to)
	if err := p.db.try(ctx, role, password); cred.KindOf(err) == cred.Denied {
		if err := p.set(ctx, from, role, password); err != nil {
			return nil, err
		}
		if err := p.db.try(ctx, role, password); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return nil, put(ctx, to)
}

func (p *postgresPair) set(ctx context.Context, from Values, role string, password cred.Secret) error {
	err := p.manage(ctx, from, func(ctx context.Context, conn *pgx.Conn) error {
		return inTransaction(ctx, conn, func(tx pgx.Tx) error { return setPassword(ctx, tx, role, password) })
	})
	return adminRefused(err)
}

// End takes the other role's password away, so that nobody can log in with any that it had.
func (p *postgresPair) End(ctx context.Context, _ issuer.Rotation, stays, gone Values) error {
	role, err := p.other(stays)
	if err != nil {
		return err
	}
	err = p.manage(ctx, stays, func(ctx context.Context, conn *pgx.Conn) error {
		return inTransaction(ctx, conn, func(tx pgx.Tx) error { return alterRole(ctx, tx, role, "NULL") })
	})
	if err != nil {
		return adminRefused(err)
	}
	if was, password := p.login(gone); was == role {
		return p.refused(ctx, role, password)
	}
	return nil
}

// adminRefused makes of a refused admin what it is: a matter of the configuration.
func adminRefused(err error) error {
	if cred.KindOf(err) != cred.Denied {
		return err
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: "postgres.admin", Reason: "ADMIN_REFUSED", Err: err,
		Public: "PostgreSQL refuses the admin login that changes the roles' passwords",
	}
}
