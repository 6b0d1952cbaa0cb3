package vault

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// calm lets what uses the engines of Vault go on side by side, and keeps it from an engine while the
// connections of its root are replaced: Vault closes them, and answers 500 to whatever uses them just
// then. What was begun may have made a user by then that Vault does not know of.
type calm struct {
	mu     sync.Mutex // owns what follows
	users  map[string]int
	closed map[string]chan struct{} // by mount; closed when it is open again
	left   chan struct{}            // closed, and made anew, when somebody has left while a mount is closed
}

func newCalm() *calm {
	return &calm{users: map[string]int{}, closed: map[string]chan struct{}{}, left: make(chan struct{})}
}

// use waits until the engine of a path is open, and keeps it from being closed until leave is called.
func (c *calm) use(ctx context.Context, path string) (leave func(), err error) {
	for {
		wait := c.enter(path)
		if wait == nil {
			return sync.OnceFunc(func() { c.leave(path) }), nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, notIssued("vault.use", "the root of this engine is being rotated just now; try again in a moment", ctx.Err())
		}
	}
}

// enter counts a user of a path in, or returns what it has to wait for.
func (c *calm) enter(path string) (wait chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for mount, opened := range c.closed {
		if strings.HasPrefix(path, mount) {
			return opened
		}
	}
	c.users[path]++
	return nil
}

func (c *calm) leave(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[path]--; c.users[path] == 0 {
		delete(c.users, path)
	}
	if len(c.closed) > 0 {
		close(c.left)
		c.left = make(chan struct{})
	}
}

// maxCalm is how long an engine is kept closed for what was begun before: new requests wait meanwhile.
const maxCalm = 3 * time.Second

// alone closes the engine at a mount, with a slash at its end, waits until nobody uses it, and does
// something. The error is Pending where it is used for too long, or somebody else has closed it.
func (c *calm) alone(ctx context.Context, mount string, do func() error) error {
	opened, ok := c.close(mount)
	if !ok {
		return stillUsed(errors.New("vault: closed by somebody else"))
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.closed, mount)
		close(opened)
	}()
	limit := time.NewTimer(maxCalm)
	defer limit.Stop()
	for {
		left, idle := c.idle(mount)
		if idle {
			return do()
		}
		select {
		case <-left:
		case <-limit.C:
			return stillUsed(errors.New("vault: still in use"))
		case <-ctx.Done():
			return stillUsed(ctx.Err())
		}
	}
}

func (c *calm) close(mount string) (opened chan struct{}, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed[mount] != nil {
		return nil, false
	}
	opened = make(chan struct{})
	c.closed[mount] = opened
	return opened, true
}

// idle reports whether nobody uses an engine, and what tells when somebody leaves.
func (c *calm) idle(mount string) (left chan struct{}, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.users {
		if strings.HasPrefix(path, mount) {
			return c.left, false
		}
	}
	return c.left, true
}

func stillUsed(cause error) error {
	return &cred.Error{
		Kind: cred.Pending, Op: "vault.rotate", Reason: "ENGINE_IN_USE", RetryAfter: time.Second, Err: cause,
		Public: "credentials of this engine are being made or ended without a pause; the rotation waits for one",
	}
}
