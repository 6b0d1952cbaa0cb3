// Package boltlog keeps an audit log in a bbolt file: the entries in their canonical form, the hashes
// of the Merkle tree over them (RFC 6962 section 2.1, stored as golang.org/x/mod/sumdb/tlog counts
// them), and nothing that can be changed afterwards.
//
// A log has a file of its own (Open, for the proxy) or shares the file of a store, so that a change
// and the entry that tells of it are one transaction (New, for store/bolt).
//
// All writers go through Update: one goroutine collects whoever is waiting, runs their functions one
// after the other in one bbolt transaction and makes it durable with one commit. A function that
// fails is undone alone. A log never promises what is not on disk: sizes, entries and checkpoints
// cover what a commit has synced.
package boltlog
