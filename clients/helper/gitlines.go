package helper

import (
	"bufio"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// What git itself holds to: a line's length, and here how many there may be.
const (
	maxGitLine  = 65535
	maxGitLines = 1000
)

// gitQuestion is what git wrote. Keys that we don't know are kept and not looked at.
type gitQuestion struct {
	one  map[string]string   // key=value; the last one counts
	many map[string][]string // key[]=value; an empty value begins the list anew
}

// readGit reads lines of key=value up to an empty line or the end. A value has no NUL, and none of the
// carriage returns with which a URL could smuggle a line in.
func readGit(in io.Reader) (gitQuestion, error) {
	q := gitQuestion{map[string]string{}, map[string][]string{}}
	lines := bufio.NewScanner(io.LimitReader(in, maxGitLines*maxGitLine))
	lines.Buffer(nil, maxGitLine+1)
	lines.Split(scanLF)
	for n := 0; lines.Scan() && lines.Text() != ""; n++ {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if !ok || n == maxGitLines || strings.ContainsAny(lines.Text(), "\r\x00") {
			return q, badGit(nil)
		}
		list, isList := strings.CutSuffix(key, "[]")
		switch {
		case isList && value == "":
			delete(q.many, list)
		case isList:
			q.many[list] = append(q.many[list], value)
		default:
			q.one[key] = value
		}
	}
	if err := lines.Err(); err != nil {
		return q, badGit(err)
	}
	return q, nil
}

// scanLF splits at line feeds alone; bufio.ScanLines would take a carriage return away too.
func scanLF(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := slices.Index(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func badGit(cause error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "helper.git", Reason: "NOT_GIT", Public: "what came on standard input is not git's credential protocol: lines of key=value", Err: cause}
}

// offers reports whether git can do what a capability names.
func (q gitQuestion) offers(capability string) bool {
	return slices.Contains(q.many["capability"], capability)
}

// means reports whether the question is about a credential that we gave: the grant that git was told,
// else the secret itself. A question without either means any.
func (q gitQuestion) means(granted Granted) bool {
	for _, state := range q.many["state"] {
		if id, ours := strings.CutPrefix(state, statePrefix); ours {
			return id == string(granted.Grant)
		}
	}
	for _, key := range []string{"credential", "password"} {
		if sent := q.one[key]; sent != "" {
			return holds(granted, sent)
		}
	}
	return true
}

func holds(granted Granted, sent string) bool {
	for _, field := range []string{"token", "password"} {
		if subtle.ConstantTimeCompare(granted.Fields[field].Reveal(), []byte(sent)) == 1 {
			return true
		}
	}
	return false
}

// gitLines is what we write.
type gitLines []string

func (a *gitLines) add(key, value string) { *a = append(*a, key+"="+value) }

// encode refuses a value that would be more than one line.
func (a gitLines) encode() (string, error) {
	var b strings.Builder
	for _, line := range a {
		if strings.ContainsAny(line, "\r\n\x00") || len(line) > maxGitLine {
			key, _, _ := strings.Cut(line, "=")
			return "", &cred.Error{Kind: cred.Invalid, Op: "helper.git", Reason: "WRONG_CREDENTIAL", Public: fmt.Sprintf("the credential's %s can't be written in git's protocol: it is more than one line, or too long", key)}
		}
		b.WriteString(line + "\n")
	}
	return b.String(), nil
}
