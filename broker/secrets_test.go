package broker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

// A day with every sort of success and failure leaves no credential, no token and no handle in the
// audit log, in the process's log or in the store's file, in any common encoding.
func TestNoSecretIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, target := range []string{"db", "plain", "api", "fixed", "sts", "endless", "long"} {
		for _, f := range []fault{works, notDone, refusedOff, doneLost, doneOddly} {
			g, tok := w.grant(target)
			_, err := w.redeem(target, tok)
			w.must(err)
			w.sources[sourceOf(target)].plan("issue", f)
			w.sources[sourceOf(target)].plan("revoke", works, notDone)
			_, _ = w.redeem(target, tok)
			w.store.plan(works, works, notDone) // somewhere in the third
			_, _ = w.redeem(target, tok)
			_, _ = w.Redeem(ctx, neighbour, tok)
			_, _ = w.Redeem(ctx, runner, tok+"A")
			_, _, _ = w.Revoke(ctx, runner, g.ID, "")
			w.store.next = nil
		}
	}
	for _, name := range storySources {
		for _, f := range []fault{works, notDone, doneLost} {
			w.sources[name].plan("issue", f)
			own, _ := w.MintOwn(ctx, "tests", cred.CredentialSource{Issuer: name}, w.now().Add(time.Hour))
			w.EndOwn(ctx, own)
		}
	}
	w.sweep()
	_, err := w.Authenticate(ctx, w.idToken("somebody")+"A")
	if err == nil {
		t.Fatal("a changed token is good")
	}
	_, _, err = w.AuthenticateGrant(ctx, w.tokens[0][:len(w.tokens[0])-2])
	if err == nil {
		t.Fatal("a cut token is good")
	}
	w.clock.advance(time.Hour)
	w.sweep()

	texts := map[string]string{"the process's log": w.log.String(), "the store's file": w.file(), "the audit log": w.wholeLog()}
	if len(texts["the process's log"]) < 1000 || !strings.Contains(texts["the store's file"], "lease.issued") {
		t.Fatal("there is nothing to search")
	}
	secrets := append(append([]string{}, w.sources["vault"].secrets...), w.tokens...)
	for _, name := range storySources[1:] {
		secrets = append(secrets, w.sources[name].secrets...)
	}
	if len(secrets) < 100 {
		t.Fatalf("only %d secrets were made", len(secrets))
	}
	for where, text := range texts {
		for _, secret := range secrets {
			for _, form := range forms(secret) {
				if strings.Contains(text, form) {
					t.Errorf("%s holds %q", where, form)
				}
			}
		}
	}
	key := w.keys.Encode().RevealString()
	if strings.Contains(texts["the store's file"], key) || strings.Contains(texts["the store's file"], hex.EncodeToString([]byte(key))) {
		t.Error("the store's file holds the signing keys")
	}
}

// forms are a secret as it is and in common encodings; of a token its signature, too.
func forms(secret string) []string {
	out := []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)]}
	if parts := strings.Split(secret, "."); len(parts) == 3 {
		out = append(out, parts[2])
	}
	return out
}

// wholeLog is the audit log as an export has it.
func (w *world) wholeLog() string {
	w.t.Helper()
	var out bytes.Buffer
	_, err := w.Export(context.Background(), auditor, ExportFilter{}, func(e audit.Exported) error {
		out.Write(e.Canonical)
		return nil
	})
	w.must(err)
	return out.String()
}

// Handles reach the store's records, and so must be sealed: without the seal they would be found.
func TestHandlesAreInTheRecords(t *testing.T) {
	w := newWorld(t)
	g, tok := w.grant("db")
	_, err := w.redeem("db", tok)
	w.must(err)
	l := w.lease(g.ID)
	if l.Handle != "handle-"+string(l.ID) {
		t.Errorf("the record's handle is %q", l.Handle)
	}
	e := w.lastOf(audit.LeaseIssued)
	if e.Lease.HandleFingerprint != cred.SecretString(l.Handle).Fingerprint().String() {
		t.Errorf("the log's fingerprint is %q", e.Lease.HandleFingerprint)
	}
}
