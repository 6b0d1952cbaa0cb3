// Package helper speaks the protocols in which tools ask other programs for credentials, so that git
// and its like work with grants and no secret is pasted anywhere.
//
// Tools is the table of what there is. A helper knows its tool's protocol and no more: where a
// credential comes from is a Source, in practice a Cache before a broker.
package helper

import (
	"context"
	"io"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Tool is a line of the table: a tool, and what speaks with it.
type Tool struct {
	Name    string // the word after "daypass helper"
	Program string // the name by which the tool itself calls a helper; empty where it has no such names
	Summary string // what the help says
	Helper  Helper
}

// Tools returns the table.
func Tools() []Tool {
	return []Tool{
		{"git", "git-credential-daypass", "Answer git, as 'git help gitcredentials' describes", Git{}},
	}
}

// Helper answers one tool in its own protocol.
type Helper interface {
	// Answer does the operation that the tool names: it reads the tool's question from in and writes
	// the answer to out. What is not ours to answer, and an operation that is not known, is no error
	// and no answer: the tool goes on to its next source. An error means that the tool was to get a
	// credential and gets none; what out then holds tells the tool not to look elsewhere, where its
	// protocol can say so.
	Answer(ctx context.Context, s Setup, operation string, in io.Reader, out io.Writer) error
}

// Setup is what the person who set a tool up decided.
type Setup struct {
	Place  Place        // whom the credential is for
	Want   cred.Request // what is asked of the broker
	Bearer bool         // hand the credential out as a bearer token, where the tool can take one
	User   string       // the user name to go with a token; empty: the tool's own

	// PathParam names the parameter of the request that gets the path which the tool asks for, such as
	// a repository; empty: none does.
	PathParam string

	Source Source
}

// Source is where credentials come from.
type Source interface {
	// Get returns a credential for a request: one that it has, or a new one.
	Get(ctx context.Context, want cred.Request) (Granted, error)
	// Drop forgets the credential that it has for a request, if the caller means that one.
	Drop(ctx context.Context, want cred.Request, means func(Granted) bool) error
}

// Granted is a credential as a tool can use it.
type Granted struct {
	Grant  cred.GrantID
	Fields map[string]cred.Secret // as in cred.Credential; for a proxied target "token" alone, its grant token
	End    time.Time              // when the tool should ask again; zero: never by itself
}
