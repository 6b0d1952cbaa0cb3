package store

import (
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/daypass-io/daypass/cred"
)

// TestSeveralKeys: a set opens what each of its keys sealed, and seals with its primary one.
func TestSeveralKeys(t *testing.T) {
	manager := keyset.NewManager()
	set := func() *SealingKey {
		t.Helper()
		id, err := manager.Add(aead.XAES256GCM192BitNonceKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		if err := manager.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
		h, err := manager.Handle()
		if err != nil {
			t.Fatal(err)
		}
		k, err := sealingKey("", h)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, both := set(), set()
	where := place(Key{Table: Grants, ID: "a"}, 1)
	old, err := first.set.Load().aead.Encrypt([]byte("old"), where)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := both.set.Load().aead.Decrypt(old, where); err != nil || string(got) != "old" {
		t.Errorf("the rotated set reads %q, %v", got, err)
	}
	fresh, err := both.set.Load().aead.Encrypt([]byte("new"), where)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Key: Key{Table: Grants, ID: "a"}, Rev: 1, Value: fresh}
	if _, err := (&sealedTx{key: first, begun: first.set.Load()}).open(r); cred.KindOf(err) != cred.Internal {
		t.Errorf("the old set reads what the new primary key sealed: %v", err)
	}
}

// TestPlaces: no two places have the same associated data.
func TestPlaces(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []Key{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}} {
		for _, rev := range []uint64{0, 1, 256} {
			seen[string(place(k, rev))] = true
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d different places of 12", len(seen))
	}
}
