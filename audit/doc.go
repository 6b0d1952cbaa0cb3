// Package audit is the log's format: what an entry says (Event), its canonical bytes (Canonical,
// Parse), how entries become a Merkle tree (LeafHash, RFC 6962) whose root the log signs
// (Signer, Checkpoint), how they leave (Exporter), and how somebody who has nothing but a file and
// the log's public key finds out whether it was tampered with (Verify).
//
// An entry's bytes are fixed when it is appended and are never written anew: its hash is in every
// later checkpoint. So a kind or a member is never renamed, and Parse refuses bytes that Canonical
// would not have written. The log holds fingerprints of credentials, never credentials.
//
// Package boltlog keeps such a log on disk.
package audit
