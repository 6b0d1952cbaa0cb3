package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

// doorVariable makes of the test's program the command that rotates a door's code, which stands in a
// file. Its value is how the command behaves, and the file.
const doorVariable = "KVTEST_DOOR"

// door is the command.
func door(how string) int {
	behaviour, file, _ := strings.Cut(how, "@")
	var in struct{ Old, New map[string]string }
	text, err := io.ReadAll(os.Stdin)
	if err != nil || json.Unmarshal(text, &in) != nil {
		return 1
	}
	act, id := os.Getenv("DAYPASS_ROTATION_ACT"), os.Getenv("DAYPASS_ROTATION_ID")
	if len(os.Args) != 2 || os.Args[1] != "front" || os.Getenv("HOME") != "" || strings.Contains(strings.Join(os.Environ(), " "), "code-") {
		return 2
	}
	if tail, ok := strings.CutPrefix(behaviour, act+" "); ok {
		return misbehave(tail, in.Old["code"])
	}
	now, _ := os.ReadFile(file)
	switch act {
	case "check":
		fmt.Print(`{"findings":[{"name":"door","ok":true,"text":"is there"}]}`)
	case "prepare":
		if behaviour != "names late" {
			fmt.Printf(`{"new":{"code":%q}}`, "code-"+id+"-"+strconv.Itoa(os.Getpid()))
		}
	case "verify":
		if string(now) != in.New["code"] {
			return 3
		}
	case "switch", "undo":
		code := map[string]string{"switch": in.New["code"], "undo": in.Old["code"]}[act]
		if code == "" {
			code = "code-late-" + id
			fmt.Printf(`{"new":{"code":%q}}`, code)
		}
		beside := file + strconv.Itoa(os.Getpid()) // who is killed has written all or nothing
		return map[bool]int{true: 75}[errors.Join(os.WriteFile(beside, []byte(code), 0o600), os.Rename(beside, file)) != nil]
	}
	return 0
}

func misbehave(how, secret string) int {
	switch how {
	case "silent":
		grandchild := exec.Command("sleep", "600")
		grandchild.Stdout = os.Stdout
		_ = grandchild.Start()
		fmt.Fprintln(os.Stderr, grandchild.Process.Pid)
		_ = os.WriteFile(os.Getenv("PIDFILE"), []byte(strconv.Itoa(grandchild.Process.Pid)), 0o600)
		select {}
	case "leaves a child":
		grandchild := exec.Command("sleep", "600")
		grandchild.Stdout = os.Stdout
		_ = grandchild.Start()
		_ = os.WriteFile(os.Getenv("PIDFILE"), []byte(strconv.Itoa(grandchild.Process.Pid)), 0o600)
		return 0
	case "names and waits":
		fmt.Print(`{"new":{"code":"code-learned"}}`)
		return exitTempFail
	case "talks":
		fmt.Print(strings.Repeat("x", 1<<20))
		return 0
	case "tells":
		fmt.Fprintf(os.Stderr, "could not use %s, so there", secret)
		return 4
	case "babbles":
		fmt.Print("done!")
		return 0
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		select {}
	}
	n, _ := strconv.Atoi(how)
	return n
}

// atDoor returns a door with a code and a command for it.
func atDoor(t testing.TB, behaviour string) (file string, m *memory, c Command) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "door")
	if err := os.WriteFile(file, []byte("code-first"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c = Command{Argv: []string{self, "front"}, Env: []string{doorVariable + "=" + behaviour + "@" + file, "PIDFILE=" + file + ".pid"}, Timeout: 20 * time.Second}
	return file, remember(plain("code", "code-first", "place", "front")), c
}

func (c Command) opener(t testing.TB) Opener {
	t.Helper()
	o, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestCommandContract(t *testing.T) {
	file, m, c := atDoor(t, "good")
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		New:  func(t *testing.T, _ string) issuer.Rotator { return rotatorOf(t, m, c.opener(t)) },
		Root: func(context.Context) (string, error) { b, err := os.ReadFile(file); return string(b), err },
		Works: func(ctx context.Context) error {
			b, _ := os.ReadFile(file)
			if v, _, err := m.ReadKV(ctx, path); err != nil || v["code"].RevealString() != string(b) || v["place"].RevealString() != "front" {
				return errors.New("the door and Vault differ")
			}
			return nil
		},
		Alive: func(context.Context) (int, error) { return 1, nil },
	})
}

// A command that knows the new secret only when it has switched.
func TestCommandThatNamesLate(t *testing.T) {
	file, m, c := atDoor(t, "names late")
	r := through(t, rotatorOf(t, m, c.opener(t)), rotation(1))
	want := "code-late-" + r.ID
	v, _, _ := m.ReadKV(t.Context(), path)
	if b, _ := os.ReadFile(file); string(b) != want || v["code"].RevealString() != want || v["place"].RevealString() != "front" {
		t.Errorf("the door has %q", b)
	}
}

// The same with a real Vault that fails.
func TestCommandAtVault(t *testing.T) {
	vault := peers.Vault(t)
	direct := keeperAt(t, vault, vault.URL)
	file, _, c := atDoor(t, "good")
	issuertest.TestRotator(t, issuertest.RotatorHarness{
		Source: vault.URL,
		Fresh: func(t *testing.T) {
			_, version, _ := direct.ReadKV(t.Context(), path)
			if _, err := direct.WriteKV(t.Context(), path, plain("code", "code-first", "place", "front"), version); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("code-first"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		New: func(t *testing.T, url string) issuer.Rotator {
			return rotatorOf(t, keeperAt(t, vault, url), c.opener(t))
		},
		Root: func(context.Context) (string, error) { b, err := os.ReadFile(file); return string(b), err },
		Works: func(ctx context.Context) error {
			b, _ := os.ReadFile(file)
			if v, _, err := direct.ReadKV(ctx, path); err != nil || v["code"].RevealString() != string(b) {
				return errors.New("the door and Vault differ")
			}
			return nil
		},
		Alive: func(context.Context) (int, error) { return 1, nil },
	})
	_, version, err := direct.ReadKV(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	through(t, rotatorOf(t, direct, c.opener(t)), rotation(1))
	if gone := direct.destroyed(t, path); !slices.Contains(gone, version) || slices.Contains(gone, version+1) {
		t.Errorf("versions %v are destroyed, want %d among them and not the next", gone, version)
	}
}

// Somebody else writes the secret while it is rotated: theirs stays, and the rotation says so.
func TestSomebodyElseWrites(t *testing.T) {
	_, m, c := atDoor(t, "good")
	x := rotatorOf(t, m, c.opener(t))
	r, err := x.Prepare(t.Context(), rotation(1))
	if err != nil {
		t.Fatal(err)
	}
	theirs := plain("code", "code-theirs")
	m.versions = append(m.versions, theirs)
	if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Switch: %v, want kind conflict", err)
	}
	if err := x.Verify(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Verify: %v, want kind conflict", err)
	}
	if err := x.Undo(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Undo: %v, want kind conflict", err)
	}
	if v, version, _ := m.ReadKV(t.Context(), path); version != 2 || !same(v, theirs) {
		t.Errorf("version %d stands there, want theirs", version)
	}
}

func TestCommandExits(t *testing.T) {
	for _, c := range []struct {
		behaviour string
		kind      cred.Kind
	}{
		{"switch 75", cred.Unavailable},
		{"switch 1", cred.Invalid},
		{"switch 127", cred.Invalid},
		{"switch killed", cred.Unavailable},
		{"switch babbles", cred.Unavailable},
		{"switch talks", cred.Unavailable},
		{"switch tells", cred.Invalid},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			_, m, cmd := atDoor(t, c.behaviour)
			x := rotatorOf(t, m, cmd.opener(t))
			r, err := x.Prepare(t.Context(), rotation(1))
			if err != nil {
				t.Fatal(err)
			}
			_, err = x.Switch(t.Context(), r)
			if cred.KindOf(err) != c.kind || len(m.versions) != 1 {
				t.Errorf("Switch: %v and %d versions, want kind %v and one", err, len(m.versions), c.kind)
			}
			if strings.Contains(err.Error(), "code-first") {
				t.Errorf("the error tells the secret: %v", err)
			}
			if c.behaviour == "switch tells" && !strings.Contains(err.Error(), "could not use [redacted], so there") {
				t.Errorf("the error has lost the last words: %v", err)
			}
		})
	}
}

// A command that has learned the new secret and then could not finish: nobody else has it.
func TestCommandLearnsAndWaits(t *testing.T) {
	_, m, c := atDoor(t, "switch names and waits")
	x := rotatorOf(t, m, c.opener(t))
	r, err := x.Prepare(t.Context(), rotation(1))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable || len(m.versions) != 1 {
		t.Errorf("Switch: %v and %d versions, want kind unavailable and one", err, len(m.versions))
	}
	if j, err := readNotes(r); err != nil || j.new["code"].RevealString() != "code-learned" || j.new["place"].RevealString() != "front" {
		t.Errorf("the only copy of the new secret is not in the notes: %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "code-learned") {
		t.Errorf("the error tells the secret: %v", err)
	}
}

func TestCommandRefusesASecret(t *testing.T) {
	_, m, c := atDoor(t, "good")
	m.versions[0]["code"] = cred.SecretString("code-wrong")
	findings, err := rotatorOf(t, m, c.opener(t)).Check(t.Context(), rotation(1))
	if err != nil || !slices.Equal(failing(findings), []string{"works"}) {
		t.Errorf("%+v, %v", findings, err)
	}
	probe, err := ProbeCommand(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := probe(t.Context(), cred.Credential{Fields: plain("code", "code-wrong")}); cred.KindOf(err) != cred.Denied {
		t.Errorf("a wrong code: %v", err)
	}
	if err := probe(t.Context(), cred.Credential{Fields: plain("code", "code-first")}); err != nil {
		t.Errorf("the right code: %v", err)
	}
}

// A command that hangs is killed, with what it has started.
func TestCommandTimeout(t *testing.T) {
	for _, behaviour := range []string{"switch silent", "switch leaves a child"} {
		t.Run(behaviour, func(t *testing.T) {
			file, m, c := atDoor(t, behaviour)
			if behaviour == "switch silent" {
				c.Timeout = 2 * time.Second
			}
			x := rotatorOf(t, m, c.opener(t))
			r, err := x.Prepare(t.Context(), rotation(1))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if _, err = x.Switch(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
				t.Errorf("Switch: %v, want kind unavailable", err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
			text, err := os.ReadFile(file + ".pid")
			pid, _ := strconv.Atoi(string(text))
			if err != nil || pid == 0 {
				t.Fatalf("no child was started: %v", err)
			}
			if !ends(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Error("the command's child is alive")
			}
		})
	}
}

// ends waits until a process is gone, or a zombie that nobody has collected.
func ends(pid int) bool {
	for range 200 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil && syscall.Kill(pid, 0) != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestCommandConfig(t *testing.T) {
	for _, c := range []Command{
		{}, {Argv: []string{"rotate"}}, {Argv: []string{"/bin/true"}, Env: []string{"x"}}, {Argv: []string{"/bin/true"}, Env: []string{"DAYPASS_ROTATION_ACT=x"}},
	} {
		if _, err := c.Open(); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	m := remember(plain("code", "x"))
	missing := Command{Argv: []string{"/nowhere/rotate"}}
	if _, err := rotatorOf(t, m, missing.opener(t)).Prepare(t.Context(), rotation(1)); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a program that does not exist: %v", err)
	}
}

func FuzzParseSaid(f *testing.F) {
	f.Add([]byte(`{"new":{"a":"b"},"findings":[{"name":"x","ok":true,"text":"y"}]}`))
	f.Add([]byte(" \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseSaid(text)
		if err != nil {
			if len(got.fresh) > 0 || len(got.findings) > 0 {
				t.Errorf("an error and an answer")
			}
			return
		}
		for name, value := range got.fresh {
			if name == "" || value.IsZero() {
				t.Errorf("took an empty field of %q", text)
			}
		}
	})
}
