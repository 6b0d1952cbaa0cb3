package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/internal/freeport"
)

// vaultServer is a Vault in development mode, where one is on PATH or named by VAULT_BIN.
type vaultServer struct {
	url    string
	client *api.Client
}

// startVault returns nil where there is no vault.
func startVault(ctx context.Context, s *stage, w *world) (*vaultServer, error) {
	bin := os.Getenv("VAULT_BIN")
	if bin == "" {
		bin, _ = exec.LookPath("vault")
	}
	if bin == "" {
		s.say("no vault on PATH: the step with a Vault credential is left out\n")
		return nil, nil
	}
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	v := &vaultServer{url: "http://" + addr}
	root := "demo-" + rand.Text()
	err = w.launch(w.path("vault.log"), []string{"HOME=" + w.dir}, bin, "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id="+root, "-dev-listen-address="+addr)
	if err != nil {
		return nil, err
	}
	if err := awaitReady(ctx, http.DefaultClient, v.url+"/v1/sys/health"); err != nil {
		return nil, fmt.Errorf("vault does not come up: %w\n%s", err, w.tail("vault.log"))
	}
	config := api.DefaultConfig()
	config.Address = v.url
	if v.client, err = api.NewClient(config); err != nil {
		return nil, err
	}
	v.client.SetToken(root)
	return v, v.configure()
}

// configure mounts an engine whose credentials have leases.
func (v *vaultServer) configure() error {
	if err := v.client.Sys().Mount("pki", &api.MountInput{Type: "pki"}); err != nil {
		return err
	}
	if err := v.client.Sys().EnableAuthWithOptions("jwt", &api.EnableAuthOptions{Type: "jwt"}); err != nil {
		return err
	}
	policy := `path "pki/issue/demo" { capabilities = ["update"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }`
	if err := v.client.Sys().PutPolicy("daypass", policy); err != nil {
		return err
	}
	return v.write(map[string]map[string]any{
		"pki/root/generate/internal": {"common_name": "demo root", "ttl": "24h"},
		"pki/roles/demo":             {"allow_any_name": true, "generate_lease": true, "max_ttl": "1h"},
		"auth/jwt/role/daypass": {
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault-demo"}, "bound_subject": "daypass-broker",
			"token_policies": []string{"daypass"}, "token_period": "1h",
		},
	})
}

// trust makes Vault accept the ID tokens that the broker signs for itself.
func (v *vaultServer) trust(w *world) error {
	ca, err := os.ReadFile(w.path("etc/pki/ca.pem"))
	if err != nil {
		return err
	}
	return v.write(map[string]map[string]any{
		"auth/jwt/config": {"jwks_url": w.broker + "/jwks.json", "jwks_ca_pem": string(ca), "bound_issuer": w.broker},
	})
}

func (v *vaultServer) write(all map[string]map[string]any) error {
	for path, data := range all {
		if _, err := v.client.Logical().Write(path, data); err != nil {
			return fmt.Errorf("vault: %s: %w", path, err)
		}
	}
	return nil
}

// directFromVault is the other way of delivery: the job gets the credential itself.
func directFromVault(_ context.Context, s *stage, w *world) error {
	if w.vault == nil {
		return nil
	}
	s.act("Another target delivers directly: a client certificate from Vault, in the same one call.")
	s.say("   The broker signs in to Vault with a token that it signs itself; no Vault token is stored.")
	s.typed("daypass exchange client-certificate --id-token-file ci.jwt -o json")
	out, err := w.command("daypass", "exchange", "client-certificate", "--id-token-file", w.path("ci.jwt"), "-o", "json")
	if err != nil {
		return fmt.Errorf("the exchange failed: %w\n%s", err, out)
	}
	var answer struct {
		GrantID    string `json:"grant_id"`
		Credential struct {
			Type   string            `json:"type"`
			Fields map[string]string `json:"fields"`
		} `json:"credential"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	var names []string
	for name, value := range answer.Credential.Fields {
		names = append(names, fmt.Sprintf("%s (%d bytes)", name, len(value)))
	}
	s.shows(fmt.Sprintf("grant %s: %s with %s", answer.GrantID, answer.Credential.Type, strings.Join(names, ", ")))
	if !strings.Contains(answer.Credential.Fields["certificate"], "BEGIN CERTIFICATE") {
		return fmt.Errorf("no certificate came")
	}
	return nil
}
