// Command demo runs daypass's main job with real processes on loopback: a broker, a proxy, an OIDC
// provider and an upstream that answers like a chat-completions API and gives away secrets. It needs
// Go and the checkout, shows each step with the command that a user would type, checks what comes
// back, and ends with the line "demo ok".
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running at the end and say what to try")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *keep); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo failed: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, keep bool) error {
	s := &stage{out: out}
	s.say("daypass demo: a CI job gets a credential that it never holds.\n")
	w, err := newWorld(ctx, s)
	if err != nil {
		return err
	}
	defer w.close()
	for _, act := range []func(context.Context, *stage, *world) error{
		exchange, throughTheProxy, stream, refused, directFromVault, revoke, history, verify,
	} {
		if err := act(ctx, s, w); err != nil {
			return err
		}
	}
	if keep {
		s.say("\ndemo ok")
		w.explain(s)
		<-ctx.Done()
		return nil
	}
	if err := w.stop(); err != nil {
		return err
	}
	s.say("\ndemo ok")
	return nil
}
