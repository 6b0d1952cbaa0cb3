package peers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a PostgreSQL that belongs to one test. It takes passwords over TCP.
type PostgresServer struct {
	Host     string // 127.0.0.1
	Port     int
	User     string // the superuser
	Password string
	Database string
}

// Postgres starts a PostgreSQL that takes passwords by SCRAM, and waits until it takes connections.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	return postgres(t, "scram-sha-256")
}

// PostgresMD5 is Postgres for tests that make users by the hundred a second: what PostgreSQL keeps of a
// password for SCRAM takes it 8 ms of processor time (4096 rounds, fixed before version 16), for MD5 none.
func PostgresMD5(t testing.TB) *PostgresServer {
	t.Helper()
	return postgres(t, "md5")
}

func postgres(t testing.TB, auth string) *PostgresServer {
	t.Helper()
	skipIfShort(t)
	bin, err := postgresBin()
	if err != nil {
		unavailable(t, "no PostgreSQL: %v", err)
	}
	host, port, _ := net.SplitHostPort(freeAddr(t))
	pg := &PostgresServer{Host: host, User: "postgres", Password: "test-" + strconv.Itoa(os.Getpid()), Database: "postgres"}
	pg.Port, _ = strconv.Atoi(port)
	dir, attr := postgresHome(t)
	data := filepath.Join(dir, "data")
	if out, err := pg.initdb(bin, dir, data, auth, attr); err != nil {
		unavailable(t, "initdb: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", pg.Host, "-p", strconv.Itoa(pg.Port),
		"-k", dir, "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
	server.SysProcAttr, server.Dir = attr, dir
	p, err := start(t, server, syscall.SIGINT) // SIGINT is PostgreSQL's fast shutdown
	if err != nil {
		unavailable(t, "PostgreSQL does not start: %v", err)
	}
	if err := p.await(t.Context(), pg.ping); err != nil {
		unavailable(t, "PostgreSQL: %v", err)
	}
	return pg
}

func (pg *PostgresServer) initdb(bin, dir, data, auth string, attr *syscall.SysProcAttr) ([]byte, error) {
	pwfile := filepath.Join(dir, "pw")
	if err := os.WriteFile(pwfile, []byte(pg.Password), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", pg.User, "--pwfile", pwfile,
		"--auth="+auth, "--no-sync", "--no-locale", "-E", "UTF8")
	cmd.SysProcAttr, cmd.Dir = attr, dir
	return cmd.CombinedOutput()
}

// postgresBin returns the folder of the newest PostgreSQL's programs.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("initdb is neither in /usr/lib/postgresql nor on PATH; e2e/prepare installs it")
	}
	best := found[0]
	for _, f := range found[1:] {
		if postgresVersion(f) > postgresVersion(best) {
			best = f
		}
	}
	return filepath.Dir(best), nil
}

func postgresVersion(initdb string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	return n
}

// postgresHome makes the server's folder. PostgreSQL refuses to run as root: then the folder belongs
// to the user "postgres", and the server runs as that one.
func postgresHome(t testing.TB) (string, *syscall.SysProcAttr) {
	t.Helper()
	dir, err := os.MkdirTemp("", "daypass-pg") // a short path: sockets' paths are limited to 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return dir, &syscall.SysProcAttr{}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		unavailable(t, "PostgreSQL refuses to run as root, and there is no user postgres: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// Addr returns host:port.
func (pg *PostgresServer) Addr() string { return net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)) }

// URL returns a connection URL for a user.
func (pg *PostgresServer) URL(username, password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(username, password), Host: pg.Addr(), Path: pg.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Login connects as a user, asks for current_user and disconnects; an error means that PostgreSQL
// refused.
func (pg *PostgresServer) Login(ctx context.Context, username, password string) error {
	conn, err := pgx.Connect(ctx, pg.URL(username, password))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var me string
	if err := conn.QueryRow(ctx, "select current_user").Scan(&me); err != nil {
		return err
	}
	if me != username {
		return fmt.Errorf("signed in as %q and am %q", username, me)
	}
	return nil
}

// Exec runs statements as the superuser.
func (pg *PostgresServer) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, pg.URL(pg.User, pg.Password))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// Roles returns the roles other than PostgreSQL's own and the superuser.
func (pg *PostgresServer) Roles(ctx context.Context) ([]string, error) {
	conn, err := pgx.Connect(ctx, pg.URL(pg.User, pg.Password))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "select rolname from pg_roles order by 1")
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	var others []string
	for _, role := range all {
		if !strings.HasPrefix(role, "pg_") && role != pg.User {
			others = append(others, role)
		}
	}
	return others, err
}

func (pg *PostgresServer) ping(ctx context.Context) error { return pg.Login(ctx, pg.User, pg.Password) }
