package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
	"github.com/daypass-io/daypass/store"
)

// The tests of this file wait more than they work, so they run beside each other.

const upstreamEnv = "UPSTREAM_KEY=" + upstreamKey

// newOwnKeysCluster is a broker and a proxy, with a root of the broker's own.
func newOwnKeysCluster(t *testing.T, root string) *cluster {
	t.Helper()
	return newProxyCluster(t, func(http.ResponseWriter, *http.Request) {}, "rotations: [{ name: own, "+root+" }]\n")
}

// spend calls the target through the proxy, and returns how that was answered.
func (c *cluster) spend(g sdk.Granted) (status int, err error) {
	resp, err := c.get(context.WithoutCancel(c.t.Context()), g, "/api/x")
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// answered checks the status that the proxy answers a grant with.
func (c *cluster) answered(what string, g sdk.Granted, want int) {
	c.t.Helper()
	if got, err := c.spend(g); err != nil || got != want {
		c.t.Errorf("%s: the proxy answers %d (%v), want %d", what, got, err, want)
	}
}

// reaches waits until the proxy spends a grant: after the broker was started anew it takes a moment to find
// it again.
func (c *cluster) reaches(what string, g sdk.Granted) {
	c.t.Helper()
	eventually(c.t, what, func() error {
		if status, err := c.spend(g); err != nil || status != http.StatusOK {
			return fmt.Errorf("the proxy answers %d, %w", status, err)
		}
		return nil
	})
}

// at calls do when a rotation first stands at a step.
func at(step cred.RotationStep, do func(*pb.Rotation)) func(*pb.Rotation) {
	var once sync.Once
	return func(r *pb.Rotation) {
		if r.GetStep() == string(step) {
			once.Do(func() { do(r) })
		}
	}
}

// TestTokenKeyRotation rotates the keys that sign grant tokens: while the old one verifies, its tokens
// and those of the new one are taken by a proxy that was not told of anything; when it is gone, its
// tokens are refused.
func TestTokenKeyRotation(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "signing_keys: { longest: 1s, caches: 1ms }")
	old := c.granted("api")
	c.answered("before", old, http.StatusOK)
	var fresh sdk.Granted
	r := c.rotated("own", at(cred.StepRetire, func(*pb.Rotation) {
		fresh = c.granted("api")
		c.answered("a token of the old key, which is not gone yet", old, http.StatusOK)
		c.answered("a token of the new key", fresh, http.StatusOK)
	}))
	keys := c.jwks()
	if !strings.Contains(keys, r.GetNewName()) || strings.Contains(keys, r.GetOldName()) || r.GetOldName() == "" {
		t.Errorf("after the rotation from %q to %q these keys are published: %s", r.GetOldName(), r.GetNewName(), keys)
	}
	c.broker.kill()
	c.startBroker(upstreamEnv)
	c.proxy.stop() // it may keep keys for ten minutes
	c.startProxy()
	c.answered("a token of the key that is gone", old, http.StatusUnauthorized)
	c.answered("a token of the new key, after a restart", fresh, http.StatusOK)
	c.answered("a grant of after the rotation", c.granted("api"), http.StatusOK)
	c.export()
}

// jwks returns the keys that the broker publishes.
func (c *cluster) jwks() string {
	c.t.Helper()
	resp, err := c.httpClient().Get(c.url + "/jwks.json")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s, %v", resp.Status, err)
	}
	return text.String()
}

// TestSealingKeyRotation rotates the key that seals the store: the broker starts with the new one alone,
// and knows what it knew; with the old one alone it does not start.
func TestSealingKeyRotation(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "sealing_key: { settle: 1s }")
	g := c.granted("api")
	old := c.read("keys/sealing.key")
	r := c.rotated("own")
	key, err := store.ReadSealingKey(c.path("keys/sealing.key"))
	if err != nil {
		t.Fatal(err)
	}
	if ids := key.IDs(); len(ids) != 1 || store.KeyName(ids[0]) != r.GetNewName() || r.GetOldName() == r.GetNewName() {
		t.Errorf("after the rotation from %s to %s the file holds %d keys", r.GetOldName(), r.GetNewName(), len(ids))
	}
	c.broker.kill()
	c.startBroker(upstreamEnv)
	c.reaches("a grant from before works", g)
	if shown, err := c.as(c.person("auditor")).Grant(t.Context(), cred.GrantID(g.Grant.GetId())); err != nil || shown.GetGrant().GetState() != string(cred.GrantActive) {
		t.Errorf("a grant from before: %v, %v", shown, err)
	}
	c.rotatedThroughDeath("own", "switch.after-act", upstreamEnv)
	c.reaches("a grant from before works after a second rotation", g)
	c.broker.kill()
	now := c.read("keys/sealing.key")
	c.write("keys/sealing.key", old)
	if out, err := exec.Command(program(t, "daypassd"), "serve", "--config", c.path("daypass.yaml")).CombinedOutput(); err == nil || !strings.Contains(string(out), "daypassd: error: ") {
		t.Errorf("with the key that is gone: %v\n%s", err, out)
	}
	c.write("keys/sealing.key", now)
	c.startBroker(upstreamEnv)
	c.export()
}

// exported has an auditor export the log with the command line.
func (c *cluster) exported() string {
	c.t.Helper()
	return c.newPerson("DAYPASS_ID_TOKEN="+c.person("auditor")).runs("daypass", "audit", "export")
}

// verifies checks that an export verifies with a key, and that it leads to others.
func (c *cluster) verifies(file, key string, to ...string) {
	c.t.Helper()
	report, err := audit.Verify(strings.NewReader(file), audit.VerifyOptions{VerifierKey: key})
	if err != nil || !report.Complete || !slices.Equal(report.HandedTo, to) {
		c.t.Errorf("with %s: %v; handed to %q, want %q", key, err, report.HandedTo, to)
	}
}

// TestLogKeyRotation hands the log over twice, once through the broker's death. Each key that ever signed
// proves the whole log; each receipt verifies with the key of its time alone; and a hand-over that was
// tampered with is refused.
func TestLogKeyRotation(t *testing.T) {
	t.Parallel()
	c := newOwnKeysCluster(t, "log_key: {}")
	first := c.logKey
	c.granted("api")
	one := c.rotated("own")
	second := one.GetNewName()
	c.broker.kill()
	c.startBroker(upstreamEnv)
	c.granted("api")
	file := c.exported()
	c.verifies(file, first, second)
	c.verifies(file, second)

	two := c.rotatedThroughDeath("own", "switch.after-act", upstreamEnv)
	third := two.GetNewName()
	if names := []string{one.GetOldName(), two.GetOldName()}; !slices.Equal(names, []string{first, second}) || third == second {
		t.Errorf("handed over from %q, at last to %s", names, third)
	}
	c.granted("api")
	file = c.exported()
	c.verifies(file, first, second, third)
	c.verifies(file, second, third)
	c.verifies(file, third)
	for _, r := range []*pb.Rotation{one, two} {
		for _, key := range []string{first, second, third} {
			_, err := audit.OpenReceipt([]byte(r.GetReceipt()), key)
			if signs := key == r.GetNewName(); signs != (err == nil) {
				t.Errorf("the receipt of %s with the key %s: %v", r.GetId(), key, err)
			}
		}
	}
	refusesTampering(t, file, first)
	refusesTampering(t, file, third)
	if signers := strings.Count(strings.TrimSpace(c.read("keys/log.key")), "\n") + 1; signers != 1 {
		t.Errorf("after the rotations the key's file holds %d lines, want 1", signers)
	}
}

// refusesTampering changes the lines of an export that tell of hand-overs, and its end.
func refusesTampering(t *testing.T, file, key string) {
	t.Helper()
	lines := strings.SplitAfter(file, "\n")
	handed := 0
	for i, line := range lines {
		if !strings.HasPrefix(line, `{"hand_over"`) {
			continue
		}
		handed++
		without := strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")
		changed := slices.Clone(lines)
		changed[i] = flipped(line)
		for what, file := range map[string]string{"is left out": without, "is changed": strings.Join(changed, "")} {
			if _, err := audit.Verify(strings.NewReader(file), audit.VerifyOptions{VerifierKey: key}); err == nil {
				t.Errorf("a hand-over that %s: the export verifies with %s", what, key)
			}
		}
	}
	if handed != 2 {
		t.Errorf("the export tells of %d hand-overs, want 2", handed)
	}
}

// flipped exchanges two letters in the middle of a line.
func flipped(line string) string {
	b := []byte(line)
	for i := len(b) / 2; i+1 < len(b); i++ {
		if b[i] != b[i+1] && isLetter(b[i]) && isLetter(b[i+1]) {
			b[i], b[i+1] = b[i+1], b[i]
			return string(b)
		}
	}
	return ""
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
