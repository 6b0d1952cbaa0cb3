// Package bolt is the default driver of store.Store: one bbolt file, which holds the records and the
// audit log, for one broker.
//
// Records stand in a bucket for each table, with an index of those that are due beside it. Updates go
// through the log's group commit: callers that wait share one transaction and one sync.
package bolt
