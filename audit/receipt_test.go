package audit_test

import (
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

func TestReceipt(t *testing.T) {
	signer, err := audit.GenerateSigner("daypass.example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	other, err := audit.GenerateSigner("daypass.example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	text := audit.ReceiptHead() + "\nroot orders-root\n"
	receipt, err := signer.Receipt(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := audit.OpenReceipt([]byte(receipt), signer.VerifierKey()); err != nil || got != text {
		t.Fatalf("opened %q, %v", got, err)
	}
	checkpoint, err := signer.Checkpoint(7, tlog.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct{ signed, key string }{
		"another key":  {receipt, other.VerifierKey()},
		"no key":       {receipt, "nonsense"},
		"changed":      {strings.Replace(receipt, "orders", "others", 1), signer.VerifierKey()},
		"a checkpoint": {string(checkpoint), signer.VerifierKey()},
		"unsigned":     {text, signer.VerifierKey()},
	} {
		if got, err := audit.OpenReceipt([]byte(bad.signed), bad.key); cred.KindOf(err) != cred.Invalid || got != "" {
			t.Errorf("%s: opened %q, %v", name, got, err)
		}
	}
	if _, err := signer.Receipt("daypass.example.com/log\n7\nAAAA\n"); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a checkpoint was signed as a receipt: %v", err)
	}
	if _, err := audit.OpenCheckpoint([]byte(receipt), signer.VerifierKey()); cred.KindOf(err) != cred.Invalid {
		t.Errorf("a receipt was taken for a checkpoint: %v", err)
	}
}
