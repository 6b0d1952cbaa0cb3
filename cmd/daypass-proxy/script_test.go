package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/bbolt"

	"github.com/daypass-io/daypass/internal/cli/clitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"daypass-proxy": main})
}

// TestScripts has, besides clitest's commands,
//
//	certificate NAME URI      makes NAME.pem and NAME.key
//	newer FILE                makes a log look like one of a later version
func TestScripts(t *testing.T) {
	clitest.Run(t, nil, map[string]clitest.Command{"certificate": certificate, "newer": newer})
}

func certificate(ts *testscript.TestScript, _ bool, args []string) {
	uri, err := url.Parse(args[1])
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{uri}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for ext, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: cert}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o700))
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+ext), pem.EncodeToMemory(block), 0o600))
	}
}

func newer(ts *testscript.TestScript, _ bool, args []string) {
	db, err := bbolt.Open(ts.MkAbs(args[0]), 0o600, &bbolt.Options{Timeout: time.Second})
	ts.Check(err)
	defer db.Close()
	ts.Check(db.Update(func(tx *bbolt.Tx) error {
		head := tx.Bucket([]byte("log"))
		now := binary.BigEndian.Uint64(head.Get([]byte("version")))
		return head.Put([]byte("version"), binary.BigEndian.AppendUint64(nil, now+2)) // the next one is that of a log that was handed over
	}))
}
