package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli/clitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"daypassd": main})
}

// TestScripts has, besides clitest's commands,
//
//	certificate CERT CA server|client NAME...   checks a certificate's chain, use and names
//	newer FILE                                  makes a store look like one of a later version
//	idp hang|free|asked                         makes the identity provider at $IDP hang, or waits
//	                                            until it is asked while it does
//	idtoken FILE AUDIENCE SUBJECT               writes one of its tokens
//	exchange BROKER CA TOKENFILE TARGET         begins an exchange
//	exchanged [REGEXP]                          waits for its end: granted, or the error that is given
//	rsakey FILE                                 writes a fresh RSA key, as GitHub hands them out
//	devenv FILE                                 reads BROKER, CA and TOKENS from what dev printed
func TestScripts(t *testing.T) {
	clitest.Run(t, prepareWorld, map[string]clitest.Command{
		"certificate": certificate, "newer": newer, "idp": idp, "idtoken": idtoken,
		"exchange": exchange, "exchanged": exchanged, "devenv": devenv, "rsakey": rsaKey,
	})
}

// outside is the world around a script's broker.
type outside struct {
	idp      *identitytest.Issuer
	before   int        // discoveries when it began to hang
	exchange chan error // the outcome of the exchange that runs
}

type outsideKey struct{}

func prepareWorld(env *testscript.Env) error {
	idp, err := identitytest.New()
	if err != nil {
		return err
	}
	env.Defer(idp.Close)
	env.Values[outsideKey{}] = &outside{idp: idp, exchange: make(chan error, 1)}
	env.Setenv("IDP", idp.URL())
	return nil
}

func world(ts *testscript.TestScript) *outside { return ts.Value(outsideKey{}).(*outside) }

func certificate(ts *testscript.TestScript, _ bool, args []string) {
	parse := func(name string) *x509.Certificate {
		block, _ := pem.Decode([]byte(ts.ReadFile(name)))
		if block == nil {
			ts.Fatalf("%s is no PEM", name)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		ts.Check(err)
		return cert
	}
	cert, roots := parse(args[0]), x509.NewCertPool()
	roots.AddCert(parse(args[1]))
	use := map[string]x509.ExtKeyUsage{"server": x509.ExtKeyUsageServerAuth, "client": x509.ExtKeyUsageClientAuth}[args[2]]
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}})
	ts.Check(err)
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{use}) || cert.IsCA {
		ts.Fatalf("%s may be used for more than %s", args[0], args[2])
	}
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	if !slices.Equal(names, args[3:]) {
		ts.Fatalf("%s is for %q", args[0], names)
	}
	_, err = tls.X509KeyPair([]byte(ts.ReadFile(args[0])), []byte(ts.ReadFile(strings.TrimSuffix(args[0], ".pem")+".key")))
	ts.Check(err)
}

func newer(ts *testscript.TestScript, _ bool, args []string) {
	db, err := bbolt.Open(ts.MkAbs(args[0]), 0o600, &bbolt.Options{Timeout: time.Second})
	ts.Check(err)
	defer db.Close()
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		head := tx.Bucket([]byte("store"))
		now := binary.BigEndian.Uint64(head.Get([]byte("schema")))
		return head.Put([]byte("schema"), binary.BigEndian.AppendUint64(nil, now+1))
	}))
}

func idp(ts *testscript.TestScript, _ bool, args []string) {
	issuer := world(ts).idp
	switch args[0] {
	case "hang":
		issuer.SetHang(true)
		world(ts).before = issuer.Discoveries()
	case "free":
		issuer.SetHang(false)
	case "asked":
		for deadline := time.Now().Add(20 * time.Second); issuer.Discoveries() == world(ts).before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				ts.Fatalf("nobody asked the identity provider")
			}
		}
	default:
		ts.Fatalf("usage: idp hang|free|asked")
	}
}

func idtoken(ts *testscript.TestScript, _ bool, args []string) {
	issuer := world(ts).idp
	token := issuer.Sign(issuer.PersonClaims(args[1], args[2]))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(token), 0o600))
}

func exchange(ts *testscript.TestScript, _ bool, args []string) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ts.ReadFile(args[1])))
	token := cred.SecretString(strings.TrimSpace(ts.ReadFile(args[2])))
	client, err := sdk.Dial(args[0], sdk.StaticToken(token), &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
	ts.Check(err)
	done := world(ts).exchange
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	go func() {
		defer cancel()
		defer client.Close()
		granted, err := client.Exchange(ctx, cred.Request{Target: args[3]})
		if err == nil && granted.Token.IsZero() {
			err = fmt.Errorf("grant %s came without a token", granted.Grant.GetId())
		}
		done <- err
	}()
}

func exchanged(ts *testscript.TestScript, _ bool, args []string) {
	err := <-world(ts).exchange
	if len(args) == 0 {
		ts.Check(err)
		return
	}
	if err == nil || !regexp.MustCompile(args[0]).MatchString(cred.PublicText(err)) {
		ts.Fatalf("the exchange ended with %v", err)
	}
}

func rsaKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
	ts.Check(os.Chmod(ts.MkAbs(args[0]), 0o600))
}

func devenv(ts *testscript.TestScript, _ bool, args []string) {
	text := []byte(ts.ReadFile(args[0]))
	for name, pattern := range map[string]string{
		"BROKER": `DAYPASS_BROKER=(\S+)`, "CA": `DAYPASS_CA_FILE=(\S+)`, "TOKENS": `curl -s '([^']+)'`, "DIR": `--config (\S+)/proxy.yaml`,
	} {
		found := regexp.MustCompile(pattern).FindSubmatch(text)
		if found == nil {
			ts.Fatalf("dev did not print %s", name)
		}
		ts.Setenv(name, string(bytes.TrimSpace(found[1])))
	}
}
