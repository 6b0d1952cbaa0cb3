package vault_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
)

func (w *world) testTransit(t *testing.T) {
	w.Mount(t, "signing", "transit", nil)
	for key, kind := range map[string]string{"app": "rsa-2048", "other": "rsa-2048", "curve": "ecdsa-p256", "cipher": "aes256-gcm96"} {
		w.Write(t, "signing/keys/"+key, peers.Data{"type": kind})
	}
	iss := newIssuer(t, w.config())
	signer, err := iss.TransitSigner("signing", "app")
	if err != nil {
		t.Fatal(err)
	}
	input := bytes.Repeat([]byte("header.payload"), 50)
	digest := sha256.Sum256(input)
	for _, version := range []string{"1", "2"} {
		signature, err := signer.SignRS256(t.Context(), input)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(w.publicKey(t, "signing/keys/app", version), crypto.SHA256, digest[:], signature); err != nil {
			t.Errorf("signed with version %s of the key: %v", version, err)
		}
		w.Write(t, "signing/keys/app/rotate", nil)
	}
	for key, want := range map[string]cred.Kind{"curve": cred.Invalid, "cipher": cred.Invalid, "nosuch": cred.Invalid, "other": cred.Unavailable} {
		signer, err := iss.TransitSigner("signing", key)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := signer.SignRS256(t.Context(), input)
		if cred.KindOf(err) != want || signature != nil || (want == cred.Unavailable) != errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("key %s: %d bytes, %v, want kind %v", key, len(signature), err, want)
		}
	}
}

func (w *world) publicKey(t *testing.T, path, version string) *rsa.PublicKey {
	t.Helper()
	s, err := w.Client.Logical().ReadWithContext(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	text := s.Data["keys"].(map[string]any)[version].(map[string]any)["public_key"].(string)
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

// What is asked of Vault, and what of its answers is believed.
func TestTransitSigner(t *testing.T) {
	f := newFake(t, false)
	iss := newIssuer(t, f.config())
	for _, name := range [][2]string{{"", ""}, {"", "a/b"}, {"..", "k"}, {"", ".."}, {"a?", "k"}} {
		if _, err := iss.TransitSigner(name[0], name[1]); cred.KindOf(err) != cred.Invalid {
			t.Errorf("mount %q, key %q: %v, want kind invalid", name[0], name[1], err)
		}
	}
	signer, err := iss.TransitSigner("", "k")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("AAAA", 86)
	for given, want := range map[string]bool{
		"vault:v1:" + long: true, "vault:v12:" + long: true,
		long: false, "vault:" + long: false, "vault:v1:AAAA": false, "vault:v1:" + long + "*": false, "vault:1:" + long: false, "": false,
	} {
		f.handle("PUT transit/sign/k/sha2-256", answer(fmt.Sprintf(`{"data":{"signature":%q}}`, given)))
		signature, err := signer.SignRS256(t.Context(), []byte("a.b"))
		if (err == nil) != want || (len(signature) == 258) != want {
			t.Errorf("%.20q: %d bytes, %v", given, len(signature), err)
		}
	}
	sent := `PUT transit/sign/k/sha2-256 {"input":"YS5i","marshaling_algorithm":"asn1","prehashed":false,"signature_algorithm":"pkcs1v15"}`
	if n := f.count(sent); n != 8 {
		t.Errorf("%q was sent %d times, of\n%s", sent, n, strings.Join(f.seen, "\n"))
	}
}
