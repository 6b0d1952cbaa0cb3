package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"math"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/cred"
)

// Signer signs a log's checkpoints with an Ed25519 key (C2SP signed-note, type 0x01). It is immutable
// and safe for concurrent use.
type Signer struct {
	key         cred.Secret // "PRIVATE+KEY+origin+hash+seed", as golang.org/x/mod/sumdb/note writes it
	verifierKey string
	note        note.Signer
}

// GenerateSigner makes a key for a new log. The origin names the log for good and should be unique,
// like a URL without its scheme: "daypass.example.com/audit". It is 1 to 128 characters of printable
// ASCII without space and plus, else the error is Invalid.
func GenerateSigner(origin string) (*Signer, error) {
	if err := checkOrigin(origin); err != nil {
		return nil, err
	}
	key, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, cred.Errorf(cred.Internal, "audit.signer", "", "generate: %w", err)
	}
	return ParseSigner(cred.SecretString(key))
}

func checkOrigin(origin string) error {
	odd := strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r > '~' || r == '+' })
	if odd || origin == "" || len(origin) > 128 {
		return badSigner("a log's origin is 1 to 128 characters of printable ASCII without space and plus", nil)
	}
	return nil
}

// ParseSigner reads what Encode returned. The error is Invalid and does not show the key.
func ParseSigner(encoded cred.Secret) (*Signer, error) {
	text := encoded.RevealString()
	s, err := note.NewSigner(text)
	if err != nil {
		return nil, badSigner("this is not the signing key of an audit log", err)
	}
	if err := checkOrigin(s.Name()); err != nil {
		return nil, err
	}
	parts := strings.SplitN(text, "+", 5) // the last is base64, which has plus signs of its own
	seed, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, badSigner("this is not the signing key of an audit log", errors.New("wrong length"))
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	verifierKey, err := note.NewEd25519VerifierKey(s.Name(), public)
	if err != nil {
		return nil, cred.Errorf(cred.Internal, "audit.signer", "", "verifier key: %w", err)
	}
	return &Signer{key: encoded, verifierKey: verifierKey, note: s}, nil
}

func badSigner(public string, cause error) *cred.Error {
	return &cred.Error{Kind: cred.Invalid, Op: "audit.signer", Reason: "AUDIT_SIGNER_INVALID", Public: public, Err: cause}
}

// Encode returns the private key for ParseSigner.
func (s *Signer) Encode() cred.Secret { return s.key }

// Origin returns the log's name.
func (s *Signer) Origin() string { return s.note.Name() }

// VerifierKey returns the public key as "origin+hash+key", to be published and handed to auditors.
func (s *Signer) VerifierKey() string { return s.verifierKey }

// Checkpoint returns the signed note that says that the log's first size entries have the Merkle tree
// hash root.
func (s *Signer) Checkpoint(size uint64, root tlog.Hash) ([]byte, error) {
	if size > math.MaxInt64 {
		return nil, badSigner("a log can't have so many entries", nil)
	}
	signed, err := note.Sign(&note.Note{Text: checkpointText(s.Origin(), size, root)}, s.note)
	if err != nil {
		return nil, cred.Errorf(cred.Internal, "audit.signer", "", "sign: %w", err)
	}
	return signed, nil
}
