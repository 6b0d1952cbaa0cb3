package broker

import (
	"context"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/store"
)

// KeysRecord is where a store keeps the ring that signs grant tokens.
func KeysRecord() store.Key { return store.Key{Table: store.Keys, ID: "grant-tokens"} }

// OpenKeys returns the key ring that signs grant tokens, and makes it where the store has none.
// The store must be a sealed one.
func OpenKeys(ctx context.Context, st store.Store, alg string, now time.Time) (*token.KeyRing, error) {
	key := KeysRecord()
	var encoded cred.Secret
	fresh, err := token.NewKeyRing(alg, now)
	if err != nil {
		return nil, err
	}
	err = st.Update(ctx, func(tx store.Tx) error {
		r, err := tx.Get(key)
		if err == nil {
			encoded = cred.NewSecret(append([]byte(nil), r.Value...))
			return nil
		}
		if cred.KindOf(err) != cred.NotFound {
			return err
		}
		encoded = fresh.Encode()
		if err := tx.Put(store.Record{Key: key, Value: encoded.Reveal()}); err != nil {
			return err
		}
		return tx.Append(audit.Event{Kind: audit.KeyRotated, Time: now, Detail: map[string]any{"ring": key.ID, "algorithm": alg, "step": "created"}})
	})
	if err != nil {
		return nil, err
	}
	return token.ParseKeyRing(encoded)
}
