package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

const (
	// exitTempFail is EX_TEMPFAIL of sysexits.h: it may have been done, call again.
	exitTempFail = 75
	// maxOutput bounds what is read of a command, and maxComplaint what is told of its stderr.
	maxOutput    = 64 << 10
	maxComplaint = 1 << 10

	commandTimeout = time.Minute
	// commandGrace is how long a command has to go after it was killed, and its pipes to close.
	commandGrace = 2 * time.Second
)

// Command is an Opener that you write: a program that knows how to change what the secret opens.
//
// It is run once for each act, with DAYPASS_ROTATION_ID, DAYPASS_ROTATION_ACT and
// DAYPASS_ROTATION_ATTEMPT in its environment and one JSON object on its stdin:
//
//	{"old": {"FIELD": "VALUE", ...}, "new": {...}}
//
// The acts are: check (is old good, and would a change succeed; changes nothing), prepare (answer with
// the fields that will change, as far as they are known before), switch (make new open it), verify
// (open it with new), retire (end old), undo (make old open it again, end new). new is missing where
// it is not known. What it answers on stdout is empty, or one object
//
//	{"new": {"FIELD": "VALUE"}, "findings": [{"name": "...", "ok": true, "text": "..."}]}
//
// with new after prepare or switch alone, and findings after check. Exit status 0 means done, 75 that
// it may have been done or can be tried again, and every other one that nothing was changed; at verify
// it means that the secret was refused.
type Command struct {
	// Argv is the program, by its absolute path, and its arguments. They are no place for secrets.
	Argv []string
	// Env are more variables, as NAME=VALUE. The command gets PATH and those, and nothing of the
	// broker's own environment.
	Env []string
	// Timeout bounds one act; zero means a minute. The whole process group is killed after it.
	Timeout time.Duration
}

// Open returns the Opener. It fails with kind Invalid where the configuration can't work.
func (c Command) Open() (Opener, error) {
	if len(c.Argv) == 0 || !filepath.IsAbs(c.Argv[0]) {
		return nil, invalidConfig("a rotation's command must begin with the absolute path of a program", nil)
	}
	for _, v := range c.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.HasPrefix(name, "DAYPASS_") {
			return nil, invalidConfig("a variable for a rotation's command must be NAME=VALUE, and DAYPASS_ is ours", nil)
		}
	}
	if c.Timeout <= 0 {
		c.Timeout = commandTimeout
	}
	return &command{c}, nil
}

type command struct{ Command }

// The acts of a command.
const (
	actCheck   = "check"
	actPrepare = "prepare"
	actSwitch  = "switch"
	actVerify  = "verify"
	actRetire  = "retire"
	actUndo    = "undo"
)

// said is what a command answered.
type said struct {
	fresh    Values
	findings []cred.Finding
}

// Check runs the act check.
func (c *command) Check(ctx context.Context, r issuer.Rotation, current Values) ([]cred.Finding, error) {
	got, err := c.run(ctx, actCheck, r, current, nil)
	return got.findings, err
}

// Works runs the act verify.
func (c *command) Works(ctx context.Context, v Values) error {
	_, err := c.run(ctx, actVerify, issuer.Rotation{}, nil, v)
	return err
}

// Next runs the act prepare.
func (c *command) Next(ctx context.Context, r issuer.Rotation, current Values) (Values, error) {
	got, err := c.run(ctx, actPrepare, r, current, nil)
	return got.fresh, err
}

// Change runs the act switch, and then writes to KV.
func (c *command) Change(ctx context.Context, r issuer.Rotation, from, to Values, put Put) (Values, error) {
	got, err := c.run(ctx, actSwitch, r, from, to)
	if err != nil {
		return got.fresh, err
	}
	if to = merge(merge(from, to), got.fresh); same(from, to) {
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "command.switch", Reason: "COMMAND_NO_SECRET",
			Public: "the rotation's command has named no new secret, neither when it prepared nor when it switched",
		}
	}
	return got.fresh, put(ctx, to)
}

// End runs the act retire.
func (c *command) End(ctx context.Context, r issuer.Rotation, stays, gone Values) error {
	_, err := c.run(ctx, actRetire, r, gone, stays)
	return err
}

// Undo runs the act undo, and then writes to KV.
func (c *command) Undo(ctx context.Context, r issuer.Rotation, from, to Values, put Put) error {
	if _, err := c.run(ctx, actUndo, r, from, to); err != nil {
		return err
	}
	return put(ctx, from)
}

// run does one act. Where a switch may have been done, what it named comes with the error: nobody else may
// have it.
func (c *command) run(ctx context.Context, act string, r issuer.Rotation, from, to Values) (said, error) {
	stdin, err := question(from, to)
	if err != nil {
		return said{}, err
	}
	stdout, err := c.exec(ctx, act, r, stdin, from, to)
	if err != nil {
		got, unread := parseSaid(stdout)
		if unread != nil || act != actSwitch || cred.KindOf(err) != cred.Unavailable {
			return said{}, err
		}
		return got, err
	}
	got, err := parseSaid(stdout)
	if err != nil || len(got.fresh) > 0 && act != actPrepare && act != actSwitch {
		return said{}, unreadable(act, err)
	}
	return got, nil
}

// unreadable is an answer that isn't one. Where the command may have changed something, it may have
// been done, and it is asked again.
func unreadable(act string, err error) error {
	kind := cred.Unavailable
	if act == actCheck {
		kind = cred.Invalid
	}
	return &cred.Error{
		Kind: kind, Op: "command." + act, Reason: "COMMAND_ANSWER", Err: err,
		Public: "the rotation's command has not answered with one JSON object as it should; its author has to look at it",
	}
}

// question is what a command reads.
func question(from, to Values) ([]byte, error) {
	ask := map[string]map[string]string{}
	for name, v := range map[string]Values{"old": from, "new": to} {
		if v == nil {
			continue
		}
		ask[name] = map[string]string{}
		for field, value := range v {
			if !utf8.Valid(value.Reveal()) {
				return nil, &cred.Error{Kind: cred.Invalid, Op: "command.ask", Public: "a secret that is not text can't be given to a command"}
			}
			ask[name][field] = value.RevealString()
		}
	}
	return json.Marshal(ask)
}

// parseSaid reads what a command wrote. Its errors say nothing of the content.
func parseSaid(stdout []byte) (said, error) {
	if len(bytes.TrimSpace(stdout)) == 0 {
		return said{}, nil
	}
	var wire struct {
		New      map[string]string `json:"new"`
		Findings []cred.Finding    `json:"findings"`
	}
	dec := json.NewDecoder(bytes.NewReader(stdout))
	dec.DisallowUnknownFields()
	if dec.Decode(&wire) != nil || dec.More() {
		return said{}, errors.New("kv: not the JSON object that a command has to write")
	}
	got := said{findings: wire.Findings}
	for field, value := range wire.New {
		if field == "" || value == "" {
			return said{}, errors.New("kv: a field of the command's new secret is empty")
		}
		if got.fresh == nil {
			got.fresh = Values{}
		}
		got.fresh[field] = cred.SecretString(value)
	}
	return got, nil
}

// exec runs the program once and returns its stdout, also with an error. Stdout is never logged; of stderr the last
// kilobyte is kept for our own log, without the secrets that it was given or gave.
func (c *command) exec(ctx context.Context, act string, r issuer.Rotation, stdin []byte, secrets ...Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...) //nolint:gosec // G204: the operator's own command
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "DAYPASS_ROTATION_ID=" + r.ID, "DAYPASS_ROTATION_ACT=" + act, "DAYPASS_ROTATION_ATTEMPT=" + strconv.Itoa(r.Attempt),
	}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = commandGrace
	stdout, stderr := &bounded{max: maxOutput}, &bounded{max: maxOutput, last: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it has ended and left others behind, which hold its output open
	}
	if err == nil && stdout.over {
		return nil, unreadable(act, errors.New("kv: the command wrote more than 64 KiB"))
	}
	if err == nil {
		return stdout.kept, nil
	}
	if got, unread := parseSaid(stdout.kept); unread == nil {
		secrets = append(secrets, got.fresh)
	}
	return stdout.kept, commandFailure(act, ctx.Err(), fmt.Errorf("%w: %q", err, lastWords(stderr.kept, secrets...)))
}

// commandFailure says what the end of a command means.
func commandFailure(act string, overdue, err error) error {
	e := &cred.Error{Op: "command." + act, Err: err}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case overdue != nil, ended && !exit.Exited(), ended && exit.ExitCode() == exitTempFail, errors.Is(err, exec.ErrWaitDelay):
		e.Kind, e.Public = cred.Unavailable, "the rotation's command has not finished its "+act+"; the broker tries again"
	case !ended && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission):
		e.Kind, e.Public = cred.Unavailable, "the rotation's command can't be run just now; the broker tries again"
	case !ended:
		e.Kind, e.Reason, e.Public = cred.Invalid, "COMMAND_MISSING", "the rotation's command can't be run: look whether the file exists and may be executed"
	case act == actVerify:
		e.Kind, e.Reason, e.Public = cred.Denied, "COMMAND_REFUSED", "the rotation's command says that the secret does not work"
	default:
		e.Kind, e.Reason, e.Public = cred.Invalid, "COMMAND_FAILED", fmt.Sprintf("the rotation's command has failed at %s with exit status %d; the broker's log has its last words", act, exit.ExitCode())
	}
	return e
}

// lastWords returns the end of a text without the secrets.
func lastWords(text []byte, secrets ...Values) string {
	for _, v := range secrets {
		for _, secret := range v {
			if len(secret.Reveal()) > 0 {
				text = bytes.ReplaceAll(text, secret.Reveal(), []byte("[redacted]"))
			}
		}
	}
	return string(text[max(0, len(text)-maxComplaint):])
}

// bounded keeps the first bytes that are written to it, or the last.
type bounded struct {
	kept []byte
	max  int
	last bool
	over bool
}

// Write never fails, so that a command that writes too much ends all the same.
func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p...)
	if extra := len(b.kept) - b.max; extra > 0 {
		b.over = true
		if b.last {
			b.kept = append([]byte(nil), b.kept[extra:]...)
		} else {
			b.kept = b.kept[:b.max]
		}
	}
	return len(p), nil
}
