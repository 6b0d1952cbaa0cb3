package cli

import (
	"os"
	"runtime/debug"
)

// serverGCPercent lets the heap grow to five times what lives. What lives in our servers is a few
// megabytes, so that Go's default collects many times a second under load.
const serverGCPercent = 400

// TuneServer sets the garbage collector for a process that serves, unless the environment variable
// GOGC says otherwise.
func TuneServer() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serverGCPercent)
	}
}
