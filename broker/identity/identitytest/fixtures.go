package identitytest

import (
	"embed"
	"encoding/json"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// claimSets are claims of tokens as the services document or show them, with example organisations.
// A file is called PRESET.CASE.json, and its instant "now" is fixtureNow.
//
//go:embed testdata/claims
var claimSets embed.FS

const (
	claimSetDir = "testdata/claims"
	fixtureNow  = 1795176000 // 2026-11-20T12:00:00Z
)

// Fixtures are the names of all claim sets, PRESET.CASE, such as "github-actions.immutable".
func Fixtures() []string {
	files, err := fs.Glob(claimSets, claimSetDir+"/*.json")
	if err != nil || len(files) == 0 {
		panic("identitytest: there are no claim sets")
	}
	names := make([]string, len(files))
	for n, file := range files {
		names[n] = strings.TrimSuffix(path.Base(file), ".json")
	}
	return names
}

// Fixture returns a claim set as it is written: with the service's own issuer, and times around noon
// of 20 November 2026.
func Fixture(name string) map[string]any {
	text, err := claimSets.ReadFile(claimSetDir + "/" + name + ".json")
	if err != nil {
		panic("identitytest: there is no claim set " + name + "; there are " + strings.Join(Fixtures(), ", "))
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		panic("identitytest: " + name + ": " + err.Error())
	}
	return claims
}

// Claims returns a claim set as this issuer would sign it now: with its URL for iss, and a jti of its
// own, each where the set has one. An empty audience leaves aud as it is, which for azure-devops alone
// makes sense.
func (i *Issuer) Claims(fixture, audience string) map[string]any {
	claims := Fixture(fixture)
	shift(claims, float64(i.Now().Unix()-fixtureNow))
	for name, value := range map[string]string{"iss": i.url, "jti": newID()} {
		if _, present := claims[name]; present {
			claims[name] = value
		}
	}
	if audience != "" {
		claims["aud"] = audience
	}
	return claims
}

// shift moves the times of claims, also of those within others.
func shift(claims map[string]any, seconds float64) {
	for _, name := range slices.Collect(maps.Keys(claims)) {
		switch value := claims[name].(type) {
		case float64:
			if slices.Contains([]string{"iat", "nbf", "exp", "auth_time", "warnafter"}, name) {
				claims[name] = value + seconds
			}
		case map[string]any:
			shift(value, seconds)
		}
	}
}
