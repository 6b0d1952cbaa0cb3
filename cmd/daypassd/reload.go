package main

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// reloadInterval is how often the files that make up the rule set are looked at. Contents are
// compared, not times, so that a file that is replaced through a link is seen too.
const reloadInterval = time.Second

// reloader puts changed rules into force without a restart, as a whole or not at all.
type reloader struct {
	path    string
	started *settings // what the process runs with; only the rules of later ones count
	b       *broker.Broker
	issuers map[string]issuer.Issuer
	log     *slog.Logger
	seen    [sha256.Size]byte // of the files' contents when they were last read
}

func newReloader(path string, s *settings, b *broker.Broker, issuers map[string]issuer.Issuer, log *slog.Logger) *reloader {
	r := &reloader{path: path, started: s, b: b, issuers: issuers, log: log}
	r.seen = r.contents(s)
	return r
}

// run reloads on SIGHUP, and when a file has changed, until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			r.reload(ctx)
		case <-tick.C:
			if now := r.contents(r.started); now != r.seen {
				r.reload(ctx)
			}
		}
	}
}

// reload reads the configuration afresh. What is wrong with it, or can't change while the broker
// runs, leaves the rules in force as they are.
func (r *reloader) reload(ctx context.Context) {
	r.seen = r.contents(r.started) // before it is read: a change meanwhile is seen at the next look
	next, err := loadSettings(r.path)
	if err == nil {
		err = r.onlyRules(next)
	}
	if err != nil {
		r.log.ErrorContext(ctx, "the changed configuration is not used; the rules before stay in force", "error", err)
		if err := r.b.RefusePolicy(ctx, err.Error()); err != nil {
			r.log.ErrorContext(ctx, "that could not be recorded", "error", err)
		}
		return
	}
	if err := r.b.SetPolicy(ctx, next.config.Policy); err != nil {
		r.log.ErrorContext(ctx, "the changed rules could not be recorded; those before stay in force", "error", err)
		r.seen = [sha256.Size]byte{} // try again
		return
	}
	r.setPaths(next)
	r.started.config.OnCall = next.config.OnCall
	r.log.InfoContext(ctx, "the rules were loaded anew", "policy", next.config.Policy.Hash())
}

// setPaths tells issuers that list what lives at their source which paths targets read now.
func (r *reloader) setPaths(next *settings) {
	for name, i := range r.issuers {
		if lists, ok := i.(interface{ SetPaths(paths []string) }); ok {
			lists.SetPaths(next.pathsOf(name))
		}
	}
}

// onlyRules refuses a configuration whose targets need an issuer that does not run. Other changes
// outside the rules wait for a restart.
func (r *reloader) onlyRules(next *settings) error {
	running := map[string]string{}
	for _, i := range r.started.config.Issuers {
		running[i.Name] = i.Driver
	}
	var problems strictyaml.Problems
	for i, t := range next.config.Targets {
		if _, ok := running[t.Credential.Issuer]; !ok {
			problems = append(problems, next.config.At.Problem(strictyaml.Index("targets", i)+".credential.issuer",
				"names an issuer that the running broker does not have", "restart the broker to add issuers"))
		}
	}
	return problems.Err()
}

// contents is a hash over the files that the rules are read from. One that can't be read counts as
// empty; reading it for real then tells why.
func (r *reloader) contents(s *settings) [sha256.Size]byte {
	h := sha256.New()
	files := []string{r.path}
	for _, schedule := range s.config.OnCall {
		if schedule.File != "" {
			files = append(files, schedule.File)
		}
	}
	for _, file := range files {
		text, _ := os.ReadFile(file)
		sum := sha256.Sum256(text)
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
