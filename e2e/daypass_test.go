package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// person is somebody at a terminal: a home of their own, and the commands that they run there.
type person struct {
	t   *testing.T
	dir string   // their home
	env []string // besides what every program needs
}

func (c *cluster) newPerson(env ...string) *person {
	c.t.Helper()
	dir := c.t.TempDir()
	p := &person{t: c.t, dir: dir, env: []string{
		"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C",
		"DAYPASS_BROKER=" + c.url, "DAYPASS_CA_FILE=" + c.path("pki/ca.pem"), "DAYPASS_KEYRING=off", "DAYPASS_HOME=" + filepath.Join(dir, "daypass"),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com",
	}}
	p.env = append(p.env, env...)
	return p
}

// ran is how a command ended.
type ran struct {
	code           int
	stdout, stderr string
}

func (p *person) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	p.t.Helper()
	if name == "daypass" {
		name = program(p.t, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	return cmd
}

// tries runs a command to its end.
func (p *person) tries(name string, args ...string) ran {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := p.command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		p.t.Fatalf("%s %v: %v", name, args, err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// runs runs a command that must succeed, and returns what it printed.
func (p *person) runs(name string, args ...string) string {
	p.t.Helper()
	r := p.tries(name, args...)
	if r.code != 0 {
		p.t.Fatalf("%s %v ended with %d:\n%s%s", name, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}
