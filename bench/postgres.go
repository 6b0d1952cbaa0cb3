package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/internal/freeport"
)

// postgres is a PostgreSQL with its default settings: it syncs to disk.
type postgres struct {
	addr, user, password string

	child *child
	dir   string
}

func startPostgres(ctx context.Context) (*postgres, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, fmt.Errorf("no PostgreSQL in /usr/lib/postgresql; e2e/prepare installs it")
	}
	bin := filepath.Dir(found[len(found)-1])
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	pg := &postgres{addr: addr, user: "postgres", password: "bench-" + rand.Text()}
	if pg.dir, err = os.MkdirTemp("", "daypass-pg"); err != nil { // a short path: sockets' paths are limited to 107 bytes
		return nil, err
	}
	owner, err := ownerOf(pg.dir)
	if err != nil {
		return pg, err
	}
	pwfile, data := filepath.Join(pg.dir, "pw"), filepath.Join(pg.dir, "data")
	if err := os.WriteFile(pwfile, []byte(pg.password), 0o644); err != nil {
		return pg, err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", pg.user, "--pwfile", pwfile, "--auth=scram-sha-256", "--no-locale", "-E", "UTF8")
	initdb.Dir, initdb.SysProcAttr = pg.dir, &syscall.SysProcAttr{Credential: owner}
	if out, err := initdb.CombinedOutput(); err != nil {
		return pg, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return pg, err
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", host, "-p", port, "-k", pg.dir, "-c", "log_min_messages=panic")
	server.Dir, server.SysProcAttr = pg.dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: owner}
	if err := server.Start(); err != nil {
		return pg, err
	}
	pg.child = &child{server}
	return pg, pg.await(ctx)
}

// ownerOf gives a folder to the user "postgres" where we are root, as whom PostgreSQL refuses to run.
func ownerOf(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func (pg *postgres) await(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		conn, err := pgx.Connect(ctx, "postgres://"+pg.user+":"+pg.password+"@"+pg.addr+"/postgres?sslmode=disable")
		if err == nil {
			return conn.Close(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not take connections: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (pg *postgres) stop() {
	if pg.child != nil {
		pg.child.stop()
	}
	_ = os.RemoveAll(pg.dir)
}
