package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// lookAtHealth reads sys/health, which tells by its status, and the state of a replication
// (https://developer.hashicorp.com/vault/api-docs/system/health and .../system/replication).
func (x *root) lookAtHealth(ctx context.Context, _ rootKind, found *findings) error {
	var health struct {
		Standby bool `json:"standby"`
	}
	_, err := x.vault.client.do(ctx, request{method: "GET", path: "sys/health", root: true, read: func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&health)
	}})
	switch s := statusOf(err); {
	case s == 473, err == nil && health.Standby: // Vault's library takes a standby's 429 for success
		found.add("vault", true, "this Vault is a standby, which passes the rotation on to the active one")
	case s == 472:
		found.add("vault", false, "this Vault is a secondary for disaster recovery and can rotate nothing")
	case s == http.StatusServiceUnavailable:
		found.add("vault", false, "this Vault is sealed")
	case s == http.StatusNotImplemented:
		found.add("vault", false, "this Vault is not initialised")
	default:
		if err := found.tell("vault", "this Vault is active", asking("vault.rotate", "to look at its health", err)); err != nil {
			return err
		}
	}
	return x.lookAtReplication(ctx, found)
}

// stable are the states of a replication in which what is written at one place is soon at the other.
var stable = []string{"", "running", "stream-wals"}

func (x *root) lookAtReplication(ctx context.Context, found *findings) error {
	answer, err := x.vault.client.do(ctx, request{method: "GET", path: "sys/replication/status", root: true})
	if s := statusOf(err); s >= 400 && s < 500 && !passing(err) {
		return nil // OpenBao, and older ones, know of none
	}
	if err != nil {
		return asking("vault.rotate", "to look at its replication", err)
	}
	text, ok := "there is none", true
	for _, of := range []string{"performance", "dr"} {
		about, _ := answerData(answer)[of].(map[string]any)
		mode, _ := about["mode"].(string)
		state, _ := about["state"].(string)
		if mode == "" || mode == "disabled" {
			continue
		}
		text = fmt.Sprintf("this Vault is a %s of the replication %q in the state %q", mode, of, state)
		if !slices.Contains(stable, state) || (of == "dr" && mode == "secondary") {
			ok = false
			break
		}
	}
	found.add("replication", ok, "%s", text)
	return nil
}
