package cli

import "runtime/debug"

// version returns the module's version as the Go command stamped it, "devel" for a build from a work
// tree that has none.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
