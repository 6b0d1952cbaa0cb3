package vault

import (
	"context"
	"strings"
	"sync"
	"time"
)

// mount is an engine and where it is mounted, with a slash at its end.
type mount struct {
	path, engine string
	asked        time.Time
}

// at returns the part of a path for which an answer about it holds, with a slash at its end: where the engine
// is mounted, which Vault tells of an auth method without "auth/". Where that is none of the path's beginning,
// it is the path.
func (m mount) at(path string) string {
	path += "/"
	for _, at := range []string{m.path, "auth/" + m.path} {
		if strings.HasSuffix(m.path, "/") && strings.HasPrefix(path, at) {
			return at
		}
	}
	return path
}

// mountMaxAge is how long an answer about a mount is used, and maxMounts how many are kept.
const (
	mountMaxAge = 5 * time.Minute
	maxMounts   = 1024
)

// mounts remembers what is mounted where. Callers may choose parts of a path, and Vault mounts nothing below a
// mount: so an answer holds for all that is below. That Vault does not say what a path is, is not remembered.
type mounts struct {
	mu    sync.Mutex       // owns known
	known map[string]mount // by the part of the paths for which it holds
}

// get returns what is known of a path. After a mount has moved two answers may hold for a while: the later one
// counts.
func (m *mounts) get(path string) (found mount, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path += "/"
	for n := range len(path) {
		if path[n] != '/' {
			continue
		}
		if known, there := m.known[path[:n+1]]; there && known.asked.After(found.asked) {
			found = known
		}
	}
	return found, time.Since(found.asked) < mountMaxAge
}

// put remembers an answer, and forgets the oldest one where that makes too many.
func (m *mounts) put(path string, found mount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[found.at(path)] = found
	if len(m.known) <= maxMounts {
		return
	}
	oldest := found.at(path)
	for at, known := range m.known {
		if known.asked.Before(m.known[oldest].asked) {
			oldest = at
		}
	}
	delete(m.known, oldest)
}

// mount asks Vault which engine serves a path. Where Vault won't say, the engine is unknown and the
// answer to the request itself tells what it is.
func (i *Issuer) mount(ctx context.Context, path string) (mount, error) {
	if found, ok := i.mounts.get(path); ok {
		return found, nil
	}
	found := mount{asked: time.Now()}
	answer, err := i.asBroker(ctx, request{method: "GET", path: "sys/internal/ui/mounts/" + path})
	switch s := statusOf(err); {
	case err == nil && answer != nil:
		found.path, _ = answer.Data["path"].(string)
		found.engine = engineName(answer.Data)
		i.mounts.put(path, found)
	case err != nil && (s < 400 || s >= 500 || passing(err)):
		return mount{}, harmless("vault.mount", err)
	}
	return found, nil
}

func engineName(data map[string]any) string {
	name, _ := data["type"].(string)
	if name != "kv" && name != "generic" {
		return name
	}
	options, _ := data["options"].(map[string]any)
	if options["version"] == "2" {
		return "kv2"
	}
	return "kv1"
}
