package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/userstate"
)

// keeper keeps the person's sign-in at the broker. notices is where they are told, once, that it goes
// into files.
func (c *connection) keeper(notices io.Writer) (login.Keeper, error) {
	state, err := openState(notices)
	if err != nil {
		return login.Keeper{}, err
	}
	client, err := c.webClient()
	return login.Keeper{State: state, Broker: strings.TrimSuffix(c.broker, "/"), Client: client, Now: time.Now}, err
}

func openState(notices io.Writer) (*userstate.Dir, error) {
	path, err := userstate.DefaultPath()
	if err != nil {
		return nil, err
	}
	o := userstate.Options{Notice: func(text string) { fmt.Fprintf(notices, "daypass: note: %s\n", text) }}
	switch os.Getenv("DAYPASS_KEYRING") {
	case "", "on":
		o.Ring = userstate.SystemRing{}
	case "off":
	default:
		return nil, cli.Usagef("DAYPASS_KEYRING must be on or off")
	}
	return userstate.Open(path, o)
}

// webClient reaches the broker and identity providers over HTTPS: the CA that the broker's certificate
// is from is trusted besides the system's, since a provider of one's own often has the same.
func (c *connection) webClient() (*http.Client, error) {
	if c.caFile == "" {
		return login.NewClient(nil), nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if err := addCAs(pool, c.caFile); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return login.NewClient(transport), nil
}
