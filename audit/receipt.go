package audit

import (
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/daypass-io/daypass/cred"
)

// receiptHead is the first line of every receipt. No checkpoint begins like it, since a log's origin
// ends with its own name, so neither can be taken for the other.
const receiptHead = "daypass-rotation-receipt/v1"

// Receipt signs the text of a rotation's receipt, whose first line must be ReceiptHead, as a note (C2SP
// signed-note). The error is Invalid for a text that is none.
func (s *Signer) Receipt(text string) (string, error) {
	if !isReceipt(text) || s.Origin() == receiptHead {
		return "", badSigner("this is not the text of a receipt", nil)
	}
	signed, err := note.Sign(&note.Note{Text: text}, s.note)
	if err != nil {
		return "", cred.Errorf(cred.Internal, "audit.signer", "", "sign: %w", err)
	}
	return string(signed), nil
}

// ReceiptHead returns the first line of a receipt, without its line break.
func ReceiptHead() string { return receiptHead }

// OpenReceipt checks a signed receipt against a log's verifier key and returns its text. The error is
// Invalid.
func OpenReceipt(signed []byte, verifierKey string) (string, error) {
	v, err := newVerifier(verifierKey)
	if err != nil {
		return "", badReceipt("the verifier key can't be read", err)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return "", badReceipt("it is not signed by the key "+keyName(verifierKey)+", or was changed", err)
	}
	if !isReceipt(n.Text) {
		return "", badReceipt("what is signed is something else", nil)
	}
	return n.Text, nil
}

func isReceipt(text string) bool { return strings.HasPrefix(text, receiptHead+"\n") }

func badReceipt(why string, cause error) *cred.Error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "audit.receipt", Reason: "AUDIT_RECEIPT_INVALID",
		Public: "the receipt can't be trusted: " + why, Err: cause,
	}
}
