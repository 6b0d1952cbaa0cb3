// Command oidc is an OpenID provider for the tests: the example server of an independent implementation,
// with the one client that the tests sign in with. It stands in a module of its own, since nothing of
// ours is built from it.
//
//	oidc HOST:PORT
//
// Its people are test-user2 and test-user@HOST, each with the password "verysecure".
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const clientID = "daypass-cli"

func main() {
	address := os.Args[1]
	issuer := "http://" + address
	storage.RegisterClients(storage.NativeClient(clientID, "http://127.0.0.1/callback"))
	users := storage.NewUserStore(issuer)
	people := devices{storage.NewStorage(users), users}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server := http.Server{Addr: address, Handler: exampleop.SetupServer(issuer, people, logger, false), ReadHeaderTimeout: 10 * time.Second}
	if err := server.ListenAndServe(); err != nil {
		logger.Error(err.Error())
		os.Exit(1)
	}
}

// devices lets the client use the device flow too, which the example's native client may not.
type devices struct {
	*storage.Storage
	users storage.UserStore
}

// CompleteDeviceAuthorization takes the user's name, as the example's page has it, for their ID.
func (d devices) CompleteDeviceAuthorization(ctx context.Context, userCode, name string) error {
	return d.Storage.CompleteDeviceAuthorization(ctx, userCode, d.users.GetUserByUsername(name).ID)
}

func (d devices) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := d.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c}, nil
}

type client struct{ op.Client }

func (c client) GrantTypes() []oidc.GrantType {
	return append(c.Client.GrantTypes(), oidc.GrantTypeDeviceCode)
}
