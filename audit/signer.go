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
	beside      *Signer // while the log is handed over: the key that is not in use, or not known to be
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

// ParseSigner reads what Encode returned: one key, or while a log is handed over two, each on a line of
// its own. The error is Invalid and does not show the key.
func ParseSigner(encoded cred.Secret) (*Signer, error) {
	first, second, two := strings.Cut(strings.TrimRight(encoded.RevealString(), "\r\n"), "\n")
	s, err := parseSigner(cred.SecretString(strings.TrimSuffix(first, "\r")))
	if err != nil || !two {
		return s, err
	}
	other, err := parseSigner(cred.SecretString(second))
	if err != nil {
		return nil, err
	}
	if other.Origin() != s.Origin() {
		return nil, badSigner("the two keys of this file are not of the same log", nil)
	}
	return s.Beside(other), nil
}

func parseSigner(encoded cred.Secret) (*Signer, error) {
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

// Encode returns the private key, or both, for ParseSigner.
func (s *Signer) Encode() cred.Secret {
	if s.beside == nil {
		return s.key
	}
	return cred.SecretString(s.key.RevealString() + "\n" + s.beside.key.RevealString() + "\n")
}

// Beside returns the signer with another key of the same log beside it, nil for none. While a log is
// handed over its key file holds both, and the log itself knows which one is in use, see Of.
func (s *Signer) Beside(other *Signer) *Signer {
	both := *s
	if both.beside = nil; other != nil {
		alone := *other
		alone.beside = nil
		both.beside = &alone
	}
	return &both
}

// Of returns the signer, alone, whose public key is verifierKey: this one or the one beside it. It is nil
// where neither is.
func (s *Signer) Of(verifierKey string) *Signer {
	for _, one := range []*Signer{s, s.beside} {
		if one != nil && one.verifierKey == verifierKey {
			return one.Beside(nil)
		}
	}
	return nil
}

// Other returns the key that stands beside this one, nil where there is none.
func (s *Signer) Other() *Signer { return s.beside }

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
