package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// Git speaks git's credential protocol (git-credential(1), gitcredentials(7)): get, store, erase and
// capability.
type Git struct{}

// gitUser is the user name that goes with a token. GitHub's own documentation has it for installation
// tokens; others don't look at it.
const gitUser = "x-access-token"

// The capabilities of git's protocol; both are there since git 2.46.
const (
	capAuthtype = "authtype"
	capState    = "state"
)

// statePrefix begins the state that git hands back to us: the name of the helper, as the protocol wants
// it, and of what follows.
const statePrefix = "daypass.grant="

// Answer is Helper's.
func (g Git) Answer(ctx context.Context, s Setup, operation string, in io.Reader, out io.Writer) error {
	switch operation {
	case "capability":
		_, err := io.WriteString(out, "version 0\ncapability "+capAuthtype+"\ncapability "+capState+"\n")
		return err
	case "get", "erase":
	default:
		return nil // store: what we gave out we have; and what future versions may ask
	}
	q, err := readGit(in)
	if err != nil {
		return err
	}
	if !s.Place.Has(q.one["protocol"], q.one["host"], q.one["path"]) {
		return nil
	}
	want, err := wantFor(s, q)
	if err == nil && operation == "erase" {
		return s.Source.Drop(ctx, want, q.means)
	}
	if err == nil {
		err = g.get(ctx, s, q, want, out)
	}
	if err != nil && operation == "get" {
		_, writeErr := io.WriteString(out, "quit=1\n") // else git asks the person for a password that there is none of
		err = errors.Join(err, writeErr)
	}
	return err
}

func (Git) get(ctx context.Context, s Setup, q gitQuestion, want cred.Request, out io.Writer) error {
	granted, err := s.Source.Get(ctx, want)
	if err != nil {
		return err
	}
	a, err := gitAnswer(s, q, granted)
	if err != nil {
		return err
	}
	text, err := a.encode()
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// wantFor is the request for a question.
func wantFor(s Setup, q gitQuestion) (cred.Request, error) {
	want := s.Want
	if s.PathParam == "" {
		return want, nil
	}
	path := strings.TrimSuffix(strings.Trim(q.one["path"], "/"), ".git")
	if path == "" {
		return want, &cred.Error{
			Kind: cred.Invalid, Op: "helper.git", Reason: "NO_PATH",
			Public: fmt.Sprintf("git did not say which repository this is for; run: git config --global credential.%s.useHttpPath true", s.Place.URL()),
		}
	}
	params := map[string]string{s.PathParam: path}
	for name, value := range want.Params {
		params[name] = value
	}
	want.Params = params
	return want, nil
}

// gitAnswer chooses the form: a bearer token where that is wanted and git can take one, else a user
// name and a password.
func gitAnswer(s Setup, q gitQuestion, granted Granted) (gitLines, error) {
	token, user, password := granted.Fields["token"], granted.Fields["username"], granted.Fields["password"]
	var a gitLines
	switch {
	case !token.IsZero() && s.Bearer && q.offers(capAuthtype):
		a.add("capability[]", capAuthtype)
		a.add("authtype", "Bearer")
		a.add("credential", token.RevealString())
		a.add("ephemeral", "1") // so that no other helper keeps it
	case !token.IsZero():
		a.add("username", cmp.Or(s.User, gitUser))
		a.add("password", token.RevealString())
	case !user.IsZero() && !password.IsZero():
		a.add("username", user.RevealString())
		a.add("password", password.RevealString())
	default:
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "helper.git", Reason: "WRONG_CREDENTIAL",
			Public: fmt.Sprintf("the target %q gives neither a token nor a user with a password, so git can't use it", s.Want.Target),
		}
	}
	if !granted.End.IsZero() {
		a.add("password_expiry_utc", fmt.Sprint(granted.End.Unix()))
	}
	if q.offers(capState) {
		a.add("capability[]", capState)
		a.add("state[]", statePrefix+string(granted.Grant))
	}
	return a, nil
}
