package broker

import (
	"bytes"
	"testing"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/store"
)

func TestNewNeedsItsParts(t *testing.T) {
	w := newWorld(t)
	for name, lack := range map[string]func(*Config){
		"URL": func(c *Config) { c.URL = "" }, "Store": func(c *Config) { c.Store = nil }, "Log": func(c *Config) { c.Log = nil },
		"Identity": func(c *Config) { c.Identity = nil }, "Policy": func(c *Config) { c.Policy = nil }, "Keys": func(c *Config) { c.Keys = nil },
		"Issuers": func(c *Config) { c.Issuers = nil }, "Logger": func(c *Config) { c.Logger = nil }, "Now": func(c *Config) { c.Now = nil },
	} {
		cfg := w.cfg
		lack(&cfg)
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("a broker without %s", name)
		}
	}
}

// A start is on record, with the text of the rule set that decides.
func TestStartIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.start()
	if n := len(w.eventsOf(audit.BrokerStarted)); n != 2 {
		t.Errorf("%d starts", n)
	}
	for _, e := range w.eventsOf(audit.PolicyLoaded) {
		var text []byte
		w.must(w.sealed.View(t.Context(), func(tx store.Tx) error {
			r, err := tx.Get(store.Key{Table: store.Policies, ID: e.Decision.PolicyHash})
			text = r.Value
			return err
		}))
		if !bytes.Equal(text, w.cfg.Policy.Text()) {
			t.Error("the rule set's text is not on record")
		}
	}
	w.process = newProcess()
	w.store.process = w.process
	w.store.plan(notDone)
	if _, err := New(t.Context(), w.cfg); err == nil {
		t.Error("a broker started that could not record it")
	}
}

func TestOpenKeys(t *testing.T) {
	w := newWorld(t)
	again, err := OpenKeys(t.Context(), w.sealed, token.ES256, noon.Add(time.Hour))
	w.must(err)
	if again.KeyID() != w.keys.KeyID() || !bytes.Equal(w.JWKS(), again.JWKS()) {
		t.Error("the second opening made other keys")
	}
	if n := len(w.eventsOf(audit.KeyRotated)); n != 1 {
		t.Errorf("%d entries of keys made", n)
	}
	if _, err := OpenKeys(t.Context(), w.sealed, "HS256", noon); cred.KindOf(err) != cred.Invalid {
		t.Errorf("HS256: %v", err)
	}
}

func TestReady(t *testing.T) {
	w := newWorld(t)
	w.must(w.Ready(t.Context()))
	if w.URL() != brokerURL {
		t.Errorf("URL %q", w.URL())
	}
}
