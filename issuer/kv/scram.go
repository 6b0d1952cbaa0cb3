package kv

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"golang.org/x/text/secure/precis"

	"github.com/daypass-io/daypass/cred"
)

const (
	// scramIterations is PostgreSQL's own default. The passwords are random, with 128 bits and more:
	// more iterations guard nothing and cost each login.
	scramIterations = 4096
	scramSalt       = 16 // bytes, as PostgreSQL makes it
)

// newPassword returns a password of 26 letters and digits, which have 128 bits. SASLprep (RFC 4013)
// leaves them as they are, and no client, URL or shell has to quote them.
func newPassword() cred.Secret { return cred.SecretString(rand.Text()) }

// verifier returns what PostgreSQL keeps of a password for SCRAM-SHA-256 and takes in its place in
// ALTER ROLE, so that the password itself never reaches the server's log or pg_stat_activity:
//
//	SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
//
// RFC 5803; https://www.postgresql.org/docs/current/catalog-pg-authid.html. An undo also brings back
// passwords that people have chosen, and clients prepare those before they use them.
func verifier(password cred.Secret) (string, error) {
	salt := make([]byte, scramSalt)
	_, _ = rand.Read(salt) // never fails
	return verifierOf(prepared(password), salt, scramIterations)
}

// prepared is a password as clients prepare it: SASLprep (RFC 4013), or its bytes where that refuses it. Of
// what pgx has logged in with, OpaqueString (RFC 8265, section 4.2) makes the same; ASCII it leaves alone.
func prepared(password cred.Secret) cred.Secret {
	text, err := precis.OpaqueString.String(password.RevealString())
	if err != nil {
		return password
	}
	return cred.SecretString(text)
}

func verifierOf(password cred.Secret, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password.RevealString(), salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
