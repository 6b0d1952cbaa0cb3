package vault

import (
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
)

// FuzzOwnKey holds that what Vault gets of a caller's key is one key that reads as itself, whatever
// the caller sent.
func FuzzOwnKey(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	for _, seed := range []string{
		key, key + " ada@example.com", key + "\n" + key, `command="x" ` + key, "# c\n" + key, "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n", "MAA=", "", ",",
	} {
		f.Add(seed)
	}
	fixed := map[string]string{"common_name": "a.example.com"}
	f.Fuzz(func(t *testing.T, text string) {
		for param, from := range map[string]cred.CredentialSource{
			paramPublicKey: {Path: "ssh/sign/r"}, paramCSR: {Path: "pki/sign/r", Params: fixed},
		} {
			engine, _, _ := strings.Cut(from.Path, "/")
			got, err := readOwnKey(engine, from, map[string]string{param: text})
			if err != nil {
				continue
			}
			if param == paramPublicKey && strings.ContainsAny(got.text, "\r\n") {
				t.Fatalf("%q became more than one line: %q", text, got.text)
			}
			again, err := readOwnKey(engine, from, map[string]string{param: got.text})
			if err != nil || again.text != got.text {
				t.Fatalf("%q became %q, which reads as %v, %v", text, got.text, again, err)
			}
		}
	})
}
