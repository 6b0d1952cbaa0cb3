package kv

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/daypass-io/daypass/cred"
)

// pgTimeout bounds one connection to PostgreSQL, from dialling it to its last answer.
const pgTimeout = 15 * time.Second

// pgKeys are the settings that an address may have. Whatever else there is, is ours to set.
var pgKeys = []string{"host", "port", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation", "channel_binding"}

// database is where a PostgreSQL is.
type database struct{ cfg *pgx.ConnConfig }

// openDatabase reads an address such as
// "postgres://db.example.com:5432/orders?sslmode=verify-full&sslrootcert=ca.pem", which names no user
// and no password.
func openDatabase(address string, allowPlain bool) (database, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User != nil || u.Hostname() == "" || strings.Contains(u.Host, ",") {
		return database{}, invalidConfig("a PostgreSQL's address must be one postgres URL with one host, without a user and a password", nil)
	}
	mode := u.Query()["sslmode"]
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if !slices.Equal(mode, []string{"verify-full"}) && !(allowPlain && loopback && slices.Equal(mode, []string{"disable"})) {
		return database{}, invalidConfig("a PostgreSQL's address must say sslmode=verify-full (sslmode=disable on a loopback address with allow_plain)", nil)
	}
	if u.Query().Has("host") {
		return database{}, invalidConfig("a PostgreSQL's address names its host before the path alone", nil)
	}
	cfg, err := pgx.ParseConfigWithOptions(address, pgx.ParseConfigOptions{ParseConfigOptions: pgconn.ParseConfigOptions{ConnStringAllowedKeys: pgKeys}})
	if err != nil {
		return database{}, invalidConfig("the PostgreSQL's address can't be used: it takes host, port, database, sslmode, sslrootcert, sslcert, sslkey, sslnegotiation and channel_binding", err)
	}
	cfg.RuntimeParams = map[string]string{"application_name": "daypass"}
	cfg.Fallbacks = nil
	cfg.ValidateConnect = nil
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return database{cfg: cfg}, nil
}

// login connects as a role. Kind Denied says that the role or its password was refused. The caller
// closes the connection.
func (d database) login(ctx context.Context, role string, password cred.Secret) (*pgx.Conn, error) {
	if role == "" || password.IsZero() {
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "postgres.login", Reason: "SECRET_INCOMPLETE",
			Public: "a PostgreSQL login needs a user name and a password, and the secret lacks one",
		}
	}
	cfg := d.cfg.Copy()
	cfg.User, cfg.Password = role, password.RevealString()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, pgFailure("postgres.login", err)
	}
	return conn, nil
}

// try logs in, asks for 1 and leaves.
func (d database) try(ctx context.Context, role string, password cred.Secret) error {
	return d.as(ctx, role, password, func(ctx context.Context, conn *pgx.Conn) error {
		var one int
		if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
			return pgFailure("postgres.query", err)
		}
		return nil
	})
}

// as runs a function with a connection of a role.
func (d database) as(ctx context.Context, role string, password cred.Secret, run func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	conn, err := d.login(ctx, role, password)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	return run(ctx, conn)
}

// hangUp says good-bye, also when ctx has ended, but not for long to a server that is silent.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// pgFailure says what a failure means for who rotates.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func pgFailure(op string, err error) error {
	kind, reason, public := cred.Unavailable, "", "PostgreSQL does not answer; the broker tries again"
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch class := said.Code[:min(2, len(said.Code))]; {
		case class == "28": // invalid authorization
			kind, reason, public = cred.Denied, "LOGIN_REFUSED", "PostgreSQL refuses this user name and password"
		case said.Code == "42501":
			kind, reason, public = cred.Invalid, "MAY_NOT", "PostgreSQL does not let this login change the role's password; give it that right"
		case said.Code == "25006":
			kind, reason, public = cred.Invalid, "STANDBY", "this PostgreSQL is read-only, such as a standby; name the primary"
		case class == "42" || class == "22" || class == "3D":
			kind, reason, public = cred.Invalid, "REFUSED", "PostgreSQL refuses what was asked of it: the role or the database may not exist"
		}
	}
	return &cred.Error{Kind: kind, Op: op, Reason: reason, Public: public, Err: err}
}
