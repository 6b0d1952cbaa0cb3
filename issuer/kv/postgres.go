package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/failpoint"
	"github.com/daypass-io/daypass/issuer"
)

// Postgres is a secret that is a user name and a password of a PostgreSQL.
//
// With two Roles the rotation alternates between them: the one that is not in use gets a new password,
// KV then names it, and the other one keeps its password until Retire. No reader ever sees a login
// that is refused. Both roles must have the same rights; make them members of one role that has them.
//
// Without Roles there is one role, which has one password at a time. The new one is set in a
// transaction, written to KV, and then committed: between the last two there is an instant, as long as
// one answer of PostgreSQL, in which who reads KV is refused, and after it who read KV before. If the
// broker dies just there, the instant lasts until it goes on. Sessions that are open stay open.
type Postgres struct {
	// Address is where it is, without user and password, e.g.
	// "postgres://db.example.com:5432/orders?sslmode=verify-full".
	Address string
	// AllowPlain permits sslmode=disable for an address on loopback, for development.
	AllowPlain bool
	// Roles are the two that take turns, or none.
	Roles []string
	// Role is the one role, where the secret has no field with its name.
	Role string
	// UsernameField and PasswordField are the secret's fields; empty: "username" and "password".
	UsernameField, PasswordField string
	// Admin, where it is set, returns the username and password of a login that may change the
	// passwords. It is needed with Roles; without it the one role changes its own.
	Admin func(ctx context.Context) (cred.Credential, error)
}

// Open returns the Opener. It fails with kind Invalid where the configuration can't work.
func (p Postgres) Open() (Opener, error) {
	db, err := openDatabase(p.Address, p.AllowPlain)
	if err != nil {
		return nil, err
	}
	if p.UsernameField == "" {
		p.UsernameField = "username"
	}
	if p.PasswordField == "" {
		p.PasswordField = "password"
	}
	one := postgres{Postgres: p, db: db}
	switch {
	case len(p.Roles) == 0:
		return &one, nil
	case len(p.Roles) != 2 || p.Roles[0] == p.Roles[1] || slices.Contains(p.Roles, ""):
		return nil, invalidConfig("roles must be two different roles, or be left out", nil)
	case p.Admin == nil:
		return nil, invalidConfig("two roles that take turns need an admin login, which changes their passwords", nil)
	case p.Role != "":
		return nil, invalidConfig("role and roles exclude each other", nil)
	}
	return &postgresPair{one}, nil
}

// postgres is the Opener of one role.
type postgres struct {
	Postgres
	db database
}

func (p *postgres) login(v Values) (role string, password cred.Secret) {
	role = v[p.UsernameField].RevealString()
	if role == "" {
		role = p.Role
	}
	return role, v[p.PasswordField]
}

// Works logs in.
func (p *postgres) Works(ctx context.Context, v Values) error {
	role, password := p.login(v)
	return p.db.try(ctx, role, password)
}

// Next makes a password.
func (p *postgres) Next(context.Context, issuer.Rotation, Values) (Values, error) {
	return Values{p.PasswordField: newPassword()}, nil
}

// Change sets the password in a transaction that stays open while KV is written. So the two writes
// stand an instant apart, and where either is refused neither is done. It does so also where the
// password seems to be set already: the lock on the role then waits for a commit of an earlier try
// that has not been done yet, and PostgreSQL says so, instead of letting it come in after us.
func (p *postgres) Change(ctx context.Context, _ issuer.Rotation, from, to Values, put Put) (Values, error) {
	role, password := p.login(to)
	entered := false
	change := func(ctx context.Context, conn *pgx.Conn) error {
		entered = true
		return inTransaction(ctx, conn, func(tx pgx.Tx) error {
			if err := setPassword(ctx, tx, role, password); err != nil {
				return err
			}
			failpoint.Hit("rotate.kv.before-write")
			if err := put(ctx, to); err != nil {
				return err
			}
			failpoint.Hit("rotate.kv.before-commit")
			return nil
		})
	}
	var err error
	for _, as := range []Values{to, from, to} { // twice, since a late commit may fall between the first two
		if err = p.manage(ctx, as, change); entered || cred.KindOf(err) != cred.Denied {
			return nil, err
		}
	}
	return nil, &cred.Error{
		Kind: cred.Invalid, Op: "postgres.change", Reason: "LOGIN_LOST", Err: err,
		Public: "PostgreSQL takes neither the old nor the new password, nor an admin's; set the role's password and write it to Vault by hand",
	}
}

// End makes sure that the old password is refused.
func (p *postgres) End(ctx context.Context, _ issuer.Rotation, stays, gone Values) error {
	role, password := p.login(gone)
	if gone == nil || same(stays, gone) {
		return nil
	}
	return p.refused(ctx, role, password)
}

// refused wants a login to be refused.
func (p *postgres) refused(ctx context.Context, role string, password cred.Secret) error {
	switch err := p.db.try(ctx, role, password); {
	case err == nil:
		return &cred.Error{
			Kind: cred.Conflict, Op: "postgres.end", Reason: "OLD_WORKS",
			Public: "PostgreSQL still takes the old password, so it may ask this client for none: look at its pg_hba.conf",
		}
	case cred.KindOf(err) != cred.Denied:
		return err
	}
	return nil
}

// manage runs a function as who may change the password: the admin, or else the role itself.
func (p *postgres) manage(ctx context.Context, current Values, run func(context.Context, *pgx.Conn) error) error {
	role, password := p.login(current)
	if p.Admin != nil {
		c, err := p.Admin(ctx)
		if err != nil {
			return ours("postgres.admin", err)
		}
		role, password = c.Fields["username"].RevealString(), c.Fields["password"]
	}
	return p.db.as(ctx, role, password, run)
}

// inTransaction commits what a function does, or nothing of it.
func inTransaction(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return pgFailure("postgres.begin", err)
	}
	err = endsWithUs(ctx, tx)
	if err == nil {
		err = do(tx)
	}
	if err != nil {
		_ = tx.Rollback(ctx) // where this fails the connection's end does the same
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		// Whatever it says, the change may have been done and KV has the new password already.
		return &cred.Error{Kind: cred.Unavailable, Op: "postgres.commit", Public: "PostgreSQL has not confirmed the new password; the broker tries again", Err: err}
	}
	return nil
}

// endsWithUs has PostgreSQL end the transaction, and its lock on the role, where it hears no more of us until
// our time is over: of a broker whose machine or network is gone it is not told. That there is a
// deadline is the doing of database.as.
// https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-IDLE-IN-TRANSACTION-SESSION-TIMEOUT
func endsWithUs(ctx context.Context, tx pgx.Tx) error {
	deadline, _ := ctx.Deadline()
	left := max(time.Until(deadline).Milliseconds(), 1) // 0 would be: never
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d", left)); err != nil {
		return pgFailure("postgres.begin", err)
	}
	return nil
}

// setPassword sends the verifier in the password's stead. It has no character that could end the
// literal, and the role's name is quoted: ALTER ROLE takes no parameters.
func setPassword(ctx context.Context, tx pgx.Tx, role string, password cred.Secret) error {
	v, err := verifier(password)
	if err != nil {
		return cred.Errorf(cred.Internal, "postgres.verifier", "", "kv: %w", err)
	}
	return alterRole(ctx, tx, role, "'"+v+"'")
}

func alterRole(ctx context.Context, tx pgx.Tx, role, literal string) error {
	if _, err := tx.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD %s", pgx.Identifier{role}.Sanitize(), literal)); err != nil {
		return pgFailure("postgres.alter", err)
	}
	return nil
}

var errTrial = errors.New("kv: rolled back as meant")
