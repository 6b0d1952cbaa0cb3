package gitlab

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target's credential. A caller may send scopes and access_level, to get less
// than the target has.
const (
	paramProject = "project"
	paramScopes  = "scopes"
	paramLevel   = "access_level"
)

// levels are the roles of a project access token.
// https://docs.gitlab.com/api/project_access_tokens/#create-a-project-access-token
var levels = map[string]int{"guest": 10, "planner": 15, "reporter": 20, "developer": 30, "maintainer": 40, "owner": 50}

var (
	projectName = regexp.MustCompile(`^(?:[1-9][0-9]{0,18}|[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+)$`)
	scopeName   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// isProject reports whether a text is a project's number, or its full path. GitLab's paths begin with
// a letter, a digit or "_", and have no more than 20 parts of 255 characters.
func isProject(text string) bool { return len(text) <= 20*256 && projectName.MatchString(text) }

// covers says which narrower scopes a scope includes.
// https://docs.gitlab.com/user/project/settings/project_access_tokens/#project-access-token-scopes
var covers = map[string][]string{
	"api":              {"read_api"},
	"write_repository": {"read_repository"},
	"write_registry":   {"read_registry"},
}

// want is what a token is asked for.
type want struct {
	project string // a number or a path
	scopes  []string
	level   int
}

// CheckSource tells what is wrong with a target's credential, with kind Invalid. What placeholders
// stand for is not known before somebody asks and is checked then.
func CheckSource(src cred.CredentialSource) error {
	for _, name := range slices.Sorted(maps.Keys(src.Params)) {
		if name != paramProject && name != paramScopes && name != paramLevel {
			return badTarget("there is no parameter " + strconv.Quote(name) + "; it takes project, scopes and access_level")
		}
	}
	if src.Type != "" && src.Type != cred.Bearer && src.Type != cred.UserPassword {
		return badTarget("type must be bearer or user_password")
	}
	if src.Path != "" || len(src.Fields) > 0 {
		return badTarget("path and fields mean nothing to GitLab")
	}
	open := func(name string) bool { return len(issuer.Placeholders(src.Params[name])) > 0 }
	if !open(paramProject) && !isProject(src.Params[paramProject]) {
		return badTarget("project must be a project's number, or its full path such as group/project")
	}
	if _, err := scopesOf(src.Params[paramScopes]); err != nil && !open(paramScopes) {
		return badTarget("scopes " + err.Error())
	}
	if _, err := levelOf(src.Params[paramLevel]); err != nil && !open(paramLevel) {
		return badTarget("access_level " + err.Error())
	}
	return nil
}

// wanted returns what to ask for: the target's whole ceiling, or what the caller asked for within it.
func wanted(src cred.CredentialSource, params map[string]string) (want, error) {
	if err := CheckSource(src); err != nil {
		return want{}, err
	}
	w := want{project: src.Params[paramProject]}
	if !isProject(w.project) {
		return want{}, badTarget("project must be a project's number, or its full path such as group/project")
	}
	var err error
	if w.scopes, err = scopesOf(src.Params[paramScopes]); err != nil {
		return want{}, badTarget("scopes " + err.Error())
	}
	if w.level, err = levelOf(src.Params[paramLevel]); err != nil {
		return want{}, badTarget("access_level " + err.Error())
	}
	return w.narrow(params)
}

// narrow applies what the caller asked for.
func (w want) narrow(params map[string]string) (want, error) {
	if asked, given := params[paramScopes]; given {
		scopes, err := scopesOf(asked)
		if err != nil {
			return want{}, issuer.BadParam(opIssue, paramScopes, err)
		}
		for _, s := range scopes {
			if !w.allows(s) {
				return want{}, issuer.BeyondTarget(opIssue, paramScopes)
			}
		}
		w.scopes = scopes
	}
	if asked, given := params[paramLevel]; given {
		level, err := levelOf(asked)
		if err != nil {
			return want{}, issuer.BadParam(opIssue, paramLevel, err)
		}
		if level > w.level {
			return want{}, issuer.BeyondTarget(opIssue, paramLevel)
		}
		w.level = level
	}
	return w, nil
}

func (w want) allows(scope string) bool {
	return slices.ContainsFunc(w.scopes, func(s string) bool { return s == scope || slices.Contains(covers[s], scope) })
}

// scopesOf reads a list such as "read_api,read_repository" and returns it in order, each scope once.
func scopesOf(list string) ([]string, error) {
	var all []string
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if !scopeName.MatchString(part) {
			return nil, errors.New("must be a list such as read_api,read_repository, without empty parts")
		}
		if part == "self_rotate" {
			return nil, errors.New("can't have self_rotate, with which its holder would make the token live on")
		}
		all = append(all, part)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// levelOf reads a role's name or number.
func levelOf(text string) (int, error) {
	if level, ok := levels[strings.ToLower(text)]; ok {
		return level, nil
	}
	for _, level := range levels {
		if text == strconv.Itoa(level) {
			return level, nil
		}
	}
	return 0, errors.New("must be guest, planner, reporter, developer, maintainer or owner, or 10, 15, 20, 30, 40 or 50")
}

func badTarget(what string) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "gitlab.target", Reason: "TARGET_MISCONFIGURED",
		Public: "the target's credential is not one that GitLab can mint: " + what,
	}
}
