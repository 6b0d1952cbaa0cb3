package userstate

import (
	"errors"
	"time"

	"github.com/zalando/go-keyring"
)

// Ring is a keyring. Get and Delete answer ErrNotInRing for what is not there.
type Ring interface {
	Set(account, value string) error
	Get(account string) (string, error)
	Delete(account string) error
}

// What a Ring says.
var (
	ErrNotInRing = keyring.ErrNotFound
	ErrNoRing    = errors.New("userstate: the keyring does not answer")
)

// ringPatience bounds how long a keyring may take: it may ask the person to unlock it, or may wait
// for a prompt that nobody can see.
const ringPatience = 30 * time.Second

// service is what the keyring files our secrets under.
const service = "daypass"

// SystemRing is the keyring of the system: Keychain, Credential Manager, or the Secret Service.
type SystemRing struct{}

// Set keeps a value.
func (SystemRing) Set(account, value string) error {
	_, err := within(func() (string, error) { return "", keyring.Set(service, account, value) })
	return err
}

// Get returns a value.
func (SystemRing) Get(account string) (string, error) {
	return within(func() (string, error) { return keyring.Get(service, account) })
}

// Delete forgets a value.
func (SystemRing) Delete(account string) error {
	_, err := within(func() (string, error) { return "", keyring.Delete(service, account) })
	return err
}

// within gives a call up that takes too long; the library has no other way to end it.
func within(call func() (string, error)) (string, error) {
	type answer struct {
		value string
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		value, err := call()
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil && !errors.Is(a.err, keyring.ErrNotFound) {
			a.err = errors.Join(ErrNoRing, a.err)
		}
		return a.value, a.err
	case <-time.After(ringPatience):
		return "", ErrNoRing
	}
}
