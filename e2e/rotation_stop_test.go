package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/daypass-io/daypass/audit"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// TestStoppedInRotation stops the broker while the database takes its time to change the password of
// Vault's user: the broker waits until Vault has answered and writes that down, and the next one goes on
// from there. A second signal does not wait.
func TestStoppedInRotation(t *testing.T) {
	c := rotatedCluster(t, newCluster(t))
	c.broker.kill()
	c.abandonAfter("60s") // the switch has 45 s of it
	c.startBroker()

	r, answer := c.switching()
	c.signal()
	answer()
	c.broker.ended()
	if code := c.broker.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the broker ended with %d", code)
	}
	c.startBroker()
	c.goesOn(r)
	c.onceEach(r.GetId())
	for _, e := range c.export() {
		if e.Kind == audit.RotationStep && e.Detail["attempts"] != nil {
			t.Errorf("the step %s was tried %v times", e.Rotation.Step, e.Detail["attempts"])
		}
	}
	g, err := c.exchange()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.login(g.Credential); err != nil {
		t.Errorf("after the rotation: %v", err)
	}

	_, answer = c.switching()
	c.signal()
	if err := c.broker.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.broker.ended()
	if state := c.broker.cmd.ProcessState.Sys().(syscall.WaitStatus); state.Signal() != syscall.SIGTERM {
		t.Errorf("after the second signal the broker ended as %v", c.broker.cmd.ProcessState)
	}
	answer()
}

// switching begins a rotation and returns in the middle of its switch: Vault has told the database to
// change the password of its user, and gets no answer until the returned function is called.
func (c *vaultCluster) switching() (r *pb.Rotation, answer func()) {
	c.t.Helper()
	ctx, end := context.WithCancel(c.t.Context())
	c.t.Cleanup(end)
	conn, err := pgx.Connect(ctx, c.pg.URL(c.pg.User, c.pg.Password))
	if err != nil {
		c.t.Fatal(err)
	}
	tx, err := conn.Begin(ctx)
	if err == nil {
		_, err = tx.Exec(ctx, "SELECT FROM pg_authid WHERE rolname = 'vault_root' FOR UPDATE")
	}
	if err == nil {
		r, err = c.as(c.person("security")).Rotate(ctx, "orders-root", "a test")
	}
	if err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "Vault changes the password", func() error {
		var waiting int
		err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting)
		if err == nil && waiting == 0 {
			err = errors.New("nobody changes it")
		}
		return err
	})
	return r, func() {
		c.t.Helper()
		if err := errors.Join(tx.Rollback(ctx), conn.Close(ctx)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// signal asks the broker to end, and returns once it says that it waits for the rotation.
func (c *vaultCluster) signal() {
	c.t.Helper()
	if err := c.broker.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the broker waits", func() error {
		if out := c.broker.log.String(); !strings.Contains(out, "a step of a rotation is under way") || !strings.Contains(out, "root=orders-root step=switch") {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
}
