package login

import (
	"context"
	"os/exec"
	"runtime"
	"strings"
)

// CanBrowse reports whether a browser on this machine could reach the person who types, and where not
// why. getenv is os.Getenv.
func CanBrowse(goos string, getenv func(string) string) (ok bool, why string) {
	switch {
	case getenv("BROWSER") != "":
		return true, ""
	case getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != "":
		return false, "this is a session over SSH"
	case goos == "darwin" || goos == "windows":
		return true, ""
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return false, "there is no display here"
	}
	return true, ""
}

// Opener returns a Flow.Open: the program that the variable BROWSER names, else the system's own way.
func Opener(getenv func(string) string) func(ctx context.Context, url string) error {
	return func(ctx context.Context, url string) error {
		command := openCommand(runtime.GOOS, getenv)
		if _, err := exec.LookPath(command[0]); err != nil {
			return err
		}
		// The browser lives on when we end, and what it prints is not for our terminal.
		cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], append(command[1:], url)...) //nolint:gosec // G204: the user's own choice
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() { _ = cmd.Wait() }()
		return nil
	}
}

func openCommand(goos string, getenv func(string) string) []string {
	first, _, _ := strings.Cut(getenv("BROWSER"), ":") // a list, by convention
	words := strings.Fields(strings.ReplaceAll(first, "%s", ""))
	switch {
	case len(words) > 0:
		return words
	case goos == "darwin":
		return []string{"open"}
	case goos == "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	return []string{"xdg-open"}
}
