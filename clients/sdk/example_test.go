package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
)

// A CI job shows its own ID token, gets a database's password for its lifetime and gives it back.
func Example() {
	idToken := cred.SecretString(os.Getenv("DAYPASS_ID_TOKEN"))
	client, err := sdk.Dial("https://daypass.example.com:8443", sdk.StaticToken(idToken), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	got, err := client.Exchange(ctx, cred.Request{Target: "orders-db", Scopes: []string{"read"}, Reason: "migration check"})
	if err != nil {
		log.Fatal(cred.PublicText(err))
	}
	defer func() {
		_, _ = client.Revoke(ctx, cred.GrantID(got.Grant.GetId()), "the job is over")
	}()
	connect(got.Credential.Fields["username"].RevealString(), got.Credential.Fields["password"].Reveal())
}

// A refusal names the rule and the condition that failed, where the caller may know them.
func ExampleClient_Exchange_refused() {
	client, err := sdk.Dial("https://daypass.example.com:8443", sdk.StaticToken(cred.SecretString("…")), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	_, err = client.Exchange(context.Background(), cred.Request{Target: "orders-db"})
	if e, ok := errors.AsType[*cred.Error](err); ok && e.Kind == cred.Denied {
		fmt.Printf("refused by rule %s: %s\n", e.Rule, e.Claim)
	}
}

// A proxy keeps the stream of revocations open and counts from the last confirmation.
func ExampleProxyClient_WatchRevocations() {
	client, err := sdk.DialProxy("https://daypass.example.com:8443", nil) // with the proxy's certificate
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	sessions := newSessions()
	err = client.WatchRevocations(context.Background(), sessions.end, sessions.confirm)
	log.Print("the stream broke, connect again: ", cred.PublicText(err))
}
