package bolt

import (
	"path/filepath"
	"testing"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/storetest"
)

func newSigner(t testing.TB) *audit.Signer {
	t.Helper()
	s, err := audit.GenerateSigner("daypass.example.com/test")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh returns a driver with a file of its own. wrap is what stands around each store.
func fresh(wrap func(store.Store) store.Store) func(t testing.TB) storetest.Driver {
	return func(t testing.TB) storetest.Driver {
		path, signer := filepath.Join(t.TempDir(), "store.db"), newSigner(t)
		return storetest.Driver{Open: func() (store.Store, storetest.Log, error) {
			s, err := Open(path, signer, Options{noSync: true})
			if err != nil {
				return nil, nil, err
			}
			return wrap(s), s.Log(), nil
		}}
	}
}

func TestContract(t *testing.T) {
	storetest.Test(t, fresh(func(s store.Store) store.Store { return s }))
}

func TestSealedContract(t *testing.T) {
	key, err := store.NewSealingKey()
	if err != nil {
		t.Fatal(err)
	}
	storetest.Test(t, fresh(func(s store.Store) store.Store { return store.Sealed(s, key) }))
}
