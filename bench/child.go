package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/internal/freeport"
)

// serveChild is this program as a server of its own, so that each server of a pair has its own heap
// and scheduler: "upstream ADDR", or "reverseproxy ADDR URL", the bare httputil.ReverseProxy.
func serveChild(args []string) {
	var handler http.Handler
	switch args[0] {
	case "upstream":
		body := jsonAnswer(1024)
		handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body)
		})
	case "reverseproxy":
		target, err := url.Parse(args[2])
		if err != nil {
			log.Fatal(err)
		}
		handler = &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		}
	}
	log.Fatal(http.ListenAndServe(args[1], handler))
}

// jsonAnswer is a JSON object of n bytes without anything to mask.
func jsonAnswer(n int) []byte {
	const frame = `{"object":"text","content":""}`
	filler := strings.Repeat("all the words of a plain answer ", n/32+1)[:n-len(frame)]
	return []byte(`{"object":"text","content":"` + filler + `"}`)
}

const stopTimeout = 10 * time.Second

// child is a process that ends with us.
type child struct{ cmd *exec.Cmd }

func startChild(env []string, name string, args ...string) (*child, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd}, nil
}

// stop asks the process to end, so that it ends what it has started itself, as Vault its plugins, and kills
// it where it takes long.
func (c *child) stop() {
	late := time.AfterFunc(stopTimeout, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	_ = c.cmd.Process.Signal(os.Interrupt) // for PostgreSQL the fast way
	_ = c.cmd.Wait()
}

// self starts this program as a server and returns its address once it listens.
func self(kind string, args ...string) (string, *child, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return "", nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	c, err := startChild(nil, exe, append([]string{"serve", kind, addr}, args...)...)
	if err != nil {
		return "", nil, err
	}
	return addr, c, awaitListening(addr)
}

func awaitListening(addr string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", addr, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
