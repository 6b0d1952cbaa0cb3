// Package clitest runs the commands' testscripts: text in which command lines stand beside what they
// print and how they end. It has the script commands that all of our programs need.
package clitest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds everything that a script waits for.
const patience = 30 * time.Second

// Command is a script's own command.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Run runs the scripts of testdata/script. Besides testscript's own commands and more they have
//
//	exits CODE COMMAND [ARG...]      runs a command, which must end with just this code
//	signal TERM|INT|HUP TEXT         signals what runs in the background with TEXT in its command line
//	await FILE REGEXP                waits until a file has a line that matches
//	get URL [CAFILE]                 waits until a URL answers 200, and prints the body
//	expand FILE...                   replaces $NAME in files by the variable
//	freeport NAME...                 sets variables to free loopback addresses
//	mode PERM FILE...                checks the permissions of files
//	json PATH REGEXP                 checks a value of the JSON that was printed; PATH is like a.0.b
func Run(t *testing.T, setup func(*testscript.Env) error, more map[string]Command) {
	t.Helper()
	commands := map[string]Command{
		"exits": exits, "signal": signal, "await": await, "get": get, "expand": expand, "freeport": freeport, "mode": mode, "json": jsonValue,
	}
	maps.Copy(commands, more)
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: setup, Cmds: commands, RequireUniqueNames: true})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal TERM|INT|HUP TEXT")
	}
	for _, cmd := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(cmd.Args, " "), args[1]) {
			ts.Check(cmd.Process.Signal(signals[args[0]]))
			return
		}
	}
	ts.Fatalf("%s does not run in the background", args[1])
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	want := regexp.MustCompile("(?m)" + args[1])
	poll(ts, func() error {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && !want.Match(b) {
			err = fmt.Errorf("%s has no line that matches %s:\n%s", args[0], args[1], b)
		}
		return err
	})
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: get URL [CAFILE]")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if len(args) == 2 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(ts.ReadFile(args[1]))) {
			ts.Fatalf("%s holds no certificate", args[1])
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	}
	client := http.Client{Transport: transport, Timeout: patience}
	poll(ts, func() error {
		resp, err := client.Get(args[0])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		_, err = io.Copy(ts.Stdout(), resp.Body)
		return err
	})
}

// poll repeats a look at another process, which has no event to wait for.
func poll(ts *testscript.TestScript, look func() error) {
	deadline := time.Now().Add(patience)
	for {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE...")
	}
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func freeport(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeport NAME...")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close() // each is held until all are chosen
		ts.Setenv(name, l.Addr().String())
	}
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode PERM FILE...")
	}
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH REGEXP")
	}
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	for step := range strings.SplitSeq(args[0], ".") {
		switch v := at.(type) {
		case map[string]any:
			at = v[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n >= len(v) {
				ts.Fatalf("%s: there is no element %s", args[0], step)
			}
			at = v[n]
		default:
			ts.Fatalf("%s: there is nothing at %s", args[0], step)
		}
	}
	text, ok := at.(string)
	if !ok {
		b, err := json.Marshal(at)
		ts.Check(err)
		text = string(b)
	}
	if regexp.MustCompile("^(?:"+args[1]+")$").MatchString(text) == neg {
		ts.Fatalf("%s is %s", args[0], text)
	}
}
