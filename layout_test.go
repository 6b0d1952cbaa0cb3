package daypass_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/daypass-io/daypass/"

// mayImport is the import table of docs/architecture.md: for each package, by its path below the
// module or a glob over it, the packages of ours that it may import. The first line that matches a
// package is the one that counts. internal/ is for everybody and left out.
var mayImport = []struct {
	pkg     string
	imports []string
}{
	{"cred", nil},
	{"cred/token", []string{"cred"}},
	{"cred/token/dpop", []string{"cred"}},
	{"audit", []string{"cred"}},
	{"audit/boltlog", []string{"audit", "cred"}},
	{"issuer", []string{"cred"}},
	{"issuer/*", []string{"issuer", "cred"}},
	{"store", []string{"cred", "audit"}},
	{"store/bolt", []string{"store", "cred", "audit", "audit/boltlog"}},
	{"store/*", []string{"store", "cred", "audit"}},
	{"broker", []string{"cred", "cred/token", "audit", "issuer", "store", "broker/policy", "broker/identity", "broker/notice", "broker/quota"}},
	{"broker/ownkeys", []string{"cred", "cred/token", "store", "audit", "issuer"}},
	{"broker/policy", []string{"cred"}},
	{"broker/identity", []string{"cred"}},
	{"broker/quota", []string{"cred"}},
	{"broker/jobs", []string{"cred"}},
	{"broker/identity/identitytest", []string{"cred", "broker/identity"}},
	{"broker/config", []string{"cred", "broker/policy", "broker/identity"}},
	{"broker/config/*", []string{"broker/config"}},
	{"broker/notice", []string{"cred", "store", "audit"}},
	{"broker/rpc", []string{"broker", "cred", "cred/token/dpop", "audit", "proto/*"}},
	{"proxy", []string{"cred", "cred/token", "cred/token/dpop", "audit", "proxy/*"}},
	{"proxy/*", []string{"cred", "cred/token", "audit"}},
	{"clients/sdk", []string{"cred", "proto/*"}},
	{"clients/login", []string{"cred"}},
	{"clients/login/logintest", nil},
	{"clients/helper", []string{"clients/sdk", "cred"}},
	{"proto/daypass/v1", nil},
	{"internal/*", []string{"cred"}},
	{"cmd/*", []string{"*"}},
	{"e2e", []string{"*"}},
	{"e2e/*", []string{"*"}},
	{"bench", []string{"*"}},
	{"bench/*", []string{"*"}},
}

// forbidden are packages from outside that a room must not know, so that it keeps to its subject.
var forbidden = map[string][]string{
	"broker": {"google.golang.org/grpc", "net/http", "go.etcd.io/bbolt"},
	"cred":   {"google.golang.org", "github.com", "golang.org"},
	"proxy":  {"google.golang.org/grpc", "go.etcd.io/bbolt"},
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if p.ImportPath+"/" == module {
			continue
		}
		allowed, known := allowedFor(name)
		if !known {
			t.Errorf("package %s stands in no line of the import table", name)
			continue
		}
		for _, imported := range p.Imports {
			for _, prefix := range forbidden[name] {
				if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
					t.Errorf("%s imports %s, which it must not know", name, imported)
				}
			}
			ours, found := strings.CutPrefix(imported, module)
			if found && !strings.HasPrefix(ours, "internal/") && !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, ours) }) {
				t.Errorf("%s imports %s, which the import table does not allow", name, ours)
			}
			if found && (strings.HasPrefix(ours, "cmd/") || ours == "testing") {
				t.Errorf("%s imports the command %s", name, ours)
			}
		}
	}
}

func allowedFor(name string) ([]string, bool) {
	for _, line := range mayImport {
		if matches(line.pkg, name) {
			return line.imports, true
		}
	}
	return nil, false
}

// matches reports whether a name matches a line of the table: exactly, or below a folder that ends
// in a star.
func matches(pattern, name string) bool {
	if dir, isGlob := strings.CutSuffix(pattern, "*"); isGlob {
		return strings.HasPrefix(name, dir)
	}
	return path.Clean(pattern) == name
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages; the test would prove nothing", len(all))
	}
	return all
}
