package github

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target's credential. A caller may send those of the same names as
// paramRepositories and paramPermissions, to get less than the target has.
const (
	paramOwner        = "owner"
	paramOwnerID      = "owner_id"
	paramRepositories = "repositories"
	paramPermissions  = "permissions"
)

// maxRepositories is how many repositories GitHub lets one token name.
const maxRepositories = 500

var (
	ownerName      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	repositoryGlob = regexp.MustCompile(`^[A-Za-z0-9._*-]{1,100}$`)
	permissionName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// levels orders what a permission can allow.
var levels = map[string]int{"read": 1, "write": 2, "admin": 3}

// want is what a token is asked for. It never has an empty list, which to GitHub would mean all.
type want struct {
	owner        string
	ownerID      int64 // zero: not pinned
	repositories []string
	permissions  map[string]string // level by name
}

// CheckSource tells what is wrong with a target's credential, with kind Invalid. What placeholders
// stand for is not known before somebody asks and is checked then.
func CheckSource(src cred.CredentialSource) error {
	if err := checkShape(src); err != nil {
		return err
	}
	open := func(name string) bool { return len(issuer.Placeholders(src.Params[name])) > 0 }
	if !open(paramOwner) && !ownerName.MatchString(src.Params[paramOwner]) {
		return badTarget("owner must be the name of an organization or user")
	}
	if _, err := ownerID(src.Params[paramOwnerID]); err != nil && !open(paramOwnerID) {
		return err
	}
	if !open(paramRepositories) && !open(paramOwner) {
		if _, err := ceilingOf(src.Params[paramOwner], src.Params[paramRepositories]); err != nil {
			return err
		}
	}
	if _, err := permissionsOf(src.Params[paramPermissions]); err != nil && !open(paramPermissions) {
		return badTarget("permissions " + err.Error())
	}
	return nil
}

// checkShape checks what no placeholder can stand for.
func checkShape(src cred.CredentialSource) error {
	for _, name := range slices.Sorted(maps.Keys(src.Params)) {
		if !slices.Contains([]string{paramOwner, paramOwnerID, paramRepositories, paramPermissions}, name) {
			return badTarget("there is no parameter " + strconv.Quote(name) + "; it takes owner, owner_id, repositories and permissions")
		}
	}
	if src.Type != "" && src.Type != cred.Bearer && src.Type != cred.UserPassword {
		return badTarget("type must be bearer or user_password")
	}
	if src.Path != "" || len(src.Fields) > 0 {
		return badTarget("path and fields mean nothing to a GitHub App")
	}
	return nil
}

// wanted returns what to ask for: the target's whole ceiling, or what the caller asked for within it.
func wanted(src cred.CredentialSource, params map[string]string) (want, error) {
	if err := CheckSource(src); err != nil {
		return want{}, err
	}
	w := want{owner: src.Params[paramOwner]}
	var err error
	if w.ownerID, err = ownerID(src.Params[paramOwnerID]); err != nil {
		return want{}, err
	}
	ceiling, err := ceilingOf(w.owner, src.Params[paramRepositories])
	if err != nil {
		return want{}, err
	}
	asked, given := params[paramRepositories]
	if w.repositories, err = narrowRepositories(w.owner, ceiling, asked, given); err != nil {
		return want{}, err
	}
	most, err := permissionsOf(src.Params[paramPermissions])
	if err != nil {
		return want{}, badTarget("permissions " + err.Error())
	}
	asked, given = params[paramPermissions]
	if w.permissions, err = narrowPermissions(most, asked, given); err != nil {
		return want{}, err
	}
	return w, nil
}

func ownerID(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 {
		return 0, badTarget("owner_id must be the account's number")
	}
	return id, nil
}

// ceilingOf reads the repositories that a target names: patterns in lower case, since GitHub's names
// mean the same in either.
func ceilingOf(owner, list string) ([]string, error) {
	names, err := split(list)
	if err != nil {
		return nil, badTarget("repositories " + err.Error())
	}
	for n, name := range names {
		name, ok := ofOwner(owner, name)
		if !ok || !repositoryGlob.MatchString(name) {
			return nil, badTarget("repositories must be names, or patterns with \"*\", of the owner's repositories")
		}
		names[n] = strings.ToLower(name)
	}
	return names, nil
}

// narrowRepositories returns the repositories to ask for, in lower case, each once.
func narrowRepositories(owner string, ceiling []string, asked string, given bool) ([]string, error) {
	names := ceiling
	if given {
		var err error
		if names, err = split(asked); err != nil {
			return nil, issuer.BadParam(opIssue, paramRepositories, err)
		}
	}
	var all []string
	for _, full := range names {
		name, ok := ofOwner(owner, full)
		name = strings.ToLower(name)
		switch {
		case !given && strings.Contains(name, "*"):
			return nil, issuer.MissingParam(opIssue, paramRepositories, "NAME,NAME")
		case ok && (!repositoryName.MatchString(name) || strings.Trim(name, ".") == ""):
			return nil, issuer.BadParam(opIssue, paramRepositories, errors.New("must be names of repositories"))
		case !ok || !slices.ContainsFunc(ceiling, func(c string) bool { return glob.Pattern(c).Match(name) }):
			return nil, issuer.BeyondTarget(opIssue, paramRepositories)
		case !slices.Contains(all, name):
			all = append(all, name)
		}
	}
	if len(all) == 0 || len(all) > maxRepositories {
		return nil, issuer.BadParam(opIssue, paramRepositories, fmt.Errorf("must name 1 to %d repositories", maxRepositories))
	}
	return all, nil
}

// ofOwner cuts the owner off a name, and reports whether it was ours.
func ofOwner(owner, name string) (string, bool) {
	theirs, rest, full := strings.Cut(name, "/")
	if !full {
		return name, true
	}
	return rest, strings.EqualFold(theirs, owner)
}

// narrowPermissions returns the permissions to ask for.
func narrowPermissions(ceiling map[string]string, asked string, given bool) (map[string]string, error) {
	if !given {
		return ceiling, nil
	}
	permissions, err := permissionsOf(asked)
	if err != nil {
		return nil, issuer.BadParam(opIssue, paramPermissions, err)
	}
	for name, level := range permissions {
		if levels[level] > levels[ceiling[name]] {
			return nil, issuer.BeyondTarget(opIssue, paramPermissions)
		}
	}
	return permissions, nil
}

// permissionsOf reads a list such as "contents:read,issues:write".
func permissionsOf(list string) (map[string]string, error) {
	parts, err := split(list)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, part := range parts {
		name, level, _ := strings.Cut(part, ":")
		if !permissionName.MatchString(name) || levels[level] == 0 {
			return nil, errors.New("must be a list such as contents:read,issues:write, with the levels read, write and admin")
		}
		if _, twice := all[name]; twice {
			return nil, errors.New("must name each permission once")
		}
		all[name] = level
	}
	return all, nil
}

// split takes a comma-separated list apart. An empty list, and an empty part, are errors.
func split(list string) ([]string, error) {
	parts := strings.Split(list, ",")
	for n, part := range parts {
		if parts[n] = strings.TrimSpace(part); parts[n] == "" {
			return nil, errors.New("must be a list without empty parts; an empty list does not stand for everything")
		}
	}
	return parts, nil
}

func badTarget(what string) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "github.target", Reason: "TARGET_MISCONFIGURED",
		Public: "the target's credential is not one that a GitHub App can mint: " + what,
	}
}
