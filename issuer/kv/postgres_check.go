package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Check looks at the one role.
func (p *postgres) Check(ctx context.Context, _ issuer.Rotation, current Values) ([]cred.Finding, error) {
	role, _ := p.login(current)
	return p.check(ctx, current, role, role)
}

// Check looks at both roles.
func (p *postgresPair) Check(ctx context.Context, _ issuer.Rotation, current Values) ([]cred.Finding, error) {
	role, _ := p.login(current)
	next, err := p.other(current)
	if err != nil {
		return []cred.Finding{{Name: "roles", Text: cred.PublicText(err)}}, nil
	}
	return p.check(ctx, current, role, next)
}

// check tries the change of the next role's password in a transaction that is rolled back, and looks
// at what else could hinder.
func (p *postgres) check(ctx context.Context, current Values, role, next string) ([]cred.Finding, error) {
	var findings []cred.Finding
	add := func(name string, ok bool, text string) {
		findings = append(findings, cred.Finding{Name: name, OK: ok, Text: text})
	}
	switch err := p.refused(ctx, role, newPassword()); cred.KindOf(err) {
	case cred.Unavailable:
		return nil, err
	case cred.Conflict:
		add("asks for passwords", false, "PostgreSQL takes any password from this client: look at its pg_hba.conf")
	default:
		add("asks for passwords", true, "a wrong password is refused")
	}
	err := p.manage(ctx, current, func(ctx context.Context, conn *pgx.Conn) error {
		err := inTransaction(ctx, conn, func(tx pgx.Tx) error {
			if err := setPassword(ctx, tx, next, newPassword()); err != nil {
				return err
			}
			return errTrial
		})
		if !errors.Is(err, errTrial) {
			return err
		}
		add("may change", true, "the password of "+strconv.Quote(next)+" can be changed, as a change that was rolled back has shown")
		more, err := p.look(ctx, conn, role, next)
		findings = append(findings, more...)
		return err
	})
	switch {
	case err == nil:
	case cred.KindOf(err) == cred.Unavailable:
		return nil, err
	default:
		add("may change", false, cred.PublicText(err))
	}
	return findings, nil
}

// seen is what a role is.
type seen struct {
	Login                                         bool
	Ends                                          *string
	Super, Inherit, CreateRole, CreateDB, Repl, B bool
	Limit, Sessions, Owns                         int
	Groups                                        []string
}

const lookAtRole = `SELECT r.rolcanlogin, r.rolvaliduntil::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
 r.rolreplication, r.rolbypassrls, r.rolconnlimit,
 (SELECT count(*)::int FROM pg_stat_activity a WHERE a.usename = r.rolname),
 (SELECT count(*)::int FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'),
 ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1)
 FROM pg_roles r WHERE r.rolname = $1`

func lookAt(ctx context.Context, conn *pgx.Conn, role string) (seen, error) {
	var s seen
	err := conn.QueryRow(ctx, lookAtRole, role).Scan(&s.Login, &s.Ends, &s.Super, &s.Inherit, &s.CreateRole, &s.CreateDB, &s.Repl, &s.B, &s.Limit, &s.Sessions, &s.Owns, &s.Groups)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, &cred.Error{Kind: cred.Invalid, Op: "postgres.check", Public: fmt.Sprintf("PostgreSQL has no role %q", role), Err: err}
	}
	if err != nil {
		return s, pgFailure("postgres.check", err)
	}
	return s, nil
}

func (p *postgres) look(ctx context.Context, conn *pgx.Conn, role, next string) ([]cred.Finding, error) {
	now, err := lookAt(ctx, conn, role)
	if err != nil {
		return nil, err
	}
	then, err := lookAt(ctx, conn, next)
	if err != nil {
		return nil, err
	}
	findings := []cred.Finding{
		{Name: "sessions", OK: true, Text: fmt.Sprintf("%q has %d open sessions, which stay", role, now.Sessions)},
		{Name: "may log in", OK: then.Login && then.Limit != 0, Text: fmt.Sprintf("%q has LOGIN: %v, connection limit: %d", next, then.Login, then.Limit)},
	}
	if then.Ends != nil && *then.Ends != "infinity" {
		findings = append(findings, cred.Finding{Name: "valid until", OK: true, Text: fmt.Sprintf("any password of %q ends at %s: rotation does not change that", next, *then.Ends)})
	}
	if role == next {
		return findings, nil
	}
	if now.Owns+then.Owns > 0 {
		findings = append(findings, cred.Finding{Name: "owns", OK: true, Text: fmt.Sprintf("%q owns %d things and %q owns %d; a role that both are members of should own them", role, now.Owns, next, then.Owns)})
	}
	return append(findings, compare(role, now, next, then)), nil
}

// compare wants two roles that can stand in for each other, as far as that can be seen from outside
// the databases.
func compare(role string, now seen, next string, then seen) cred.Finding {
	var unlike []string
	if !slices.Equal(now.Groups, then.Groups) {
		unlike = append(unlike, fmt.Sprintf("they are members of different roles (%s; %s)", strings.Join(now.Groups, ", "), strings.Join(then.Groups, ", ")))
	}
	for _, a := range []struct {
		name      string
		now, then bool
	}{
		{"SUPERUSER", now.Super, then.Super},
		{"INHERIT", now.Inherit, then.Inherit},
		{"CREATEROLE", now.CreateRole, then.CreateRole},
		{"CREATEDB", now.CreateDB, then.CreateDB},
		{"REPLICATION", now.Repl, then.Repl},
		{"BYPASSRLS", now.B, then.B},
	} {
		if a.now != a.then {
			unlike = append(unlike, "only one of them has "+a.name)
		}
	}
	if len(unlike) > 0 {
		return cred.Finding{Name: "same rights", Text: fmt.Sprintf("%q and %q differ: %s", role, next, strings.Join(unlike, "; "))}
	}
	return cred.Finding{Name: "same rights", OK: true, Text: fmt.Sprintf("%q and %q have the same attributes and memberships", role, next)}
}
