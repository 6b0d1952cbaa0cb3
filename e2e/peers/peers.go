// Package peers starts the real services that tests talk to: Vault and PostgreSQL. Each one that it
// starts has free ports and a temporary folder of its own, and ends with the test that asked for it.
//
// Where a service can't be had the test fails if the environment says CI=true, and is skipped
// elsewhere, with the reason. With -short it is always skipped. e2e/prepare installs and builds what
// is needed.
package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/daypass-io/daypass/internal/freeport"
)

// startTimeout bounds how long a service may take to answer, on a machine that is busy.
const startTimeout = 90 * time.Second

// stopTimeout is how long a service may take to end when it is asked to; then it is killed.
const stopTimeout = 20 * time.Second

// unavailable ends a test whose service can't be had.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("peers: %s", reason)
	}
	fmt.Fprintf(os.Stderr, "peers: SKIPPED %s: %s\n", t.Name(), reason)
	t.Skipf("peers: %s", reason)
}

func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("peers: -short: no real services")
	}
}

// freeAddr returns an address of 127.0.0.1 on which nobody listens.
func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// process is a service that was started; it is stopped by its pid.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
}

// start runs cmd until the test ends. What it prints is kept for when it fails.
func start(t testing.TB, cmd *exec.Cmd, end syscall.Signal) (*process, error) {
	t.Helper()
	p := &process{cmd: cmd, log: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { defer close(p.done); _ = cmd.Wait() }()
	t.Cleanup(func() { p.stop(end) })
	return p, nil
}

func (p *process) stop(end syscall.Signal) {
	_ = p.cmd.Process.Signal(end)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await asks until ready says nil, the process has ended, or startTimeout has passed.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended by itself; it said:\n%s", p.log)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w; it said:\n%s", err, p.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail keeps the last of what a process printed.
type tail struct {
	mu  sync.Mutex // owns buf
	buf bytes.Buffer
}

const tailSize = 64 << 10

// Write keeps b, and forgets the oldest half when there is too much.
func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > tailSize {
		l.buf.Next(tailSize / 2)
	}
	return l.buf.Write(b)
}

// String returns what is kept.
func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// prepareScript finds e2e/prepare above the folder that the test runs in.
func prepareScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "e2e", "prepare")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("e2e/prepare is not in any folder above this one")
		}
		dir = parent
	}
}

// prepare runs e2e/prepare for one part, shows its progress, and returns its answer.
func prepare(part string) (string, error) {
	script, err := prepareScript()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("bash", script, part)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
