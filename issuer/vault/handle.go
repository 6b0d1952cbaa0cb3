package vault

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/daypass-io/daypass/cred"
)

// handleVersion is the form of handle that this code writes.
const handleVersion = 1

// handle is what Revoke needs. It is no secret that opens anything in Vault by itself, but names
// what the broker's token may revoke.
type handle struct {
	Version  int    `json:"v"`
	Accessor string `json:"accessor"`         // of the lease's own token
	Path     string `json:"path"`             // that was read, or is to be
	Engine   string `json:"engine"`           // the engine's type, empty where it is not known
	End      int64  `json:"end,omitempty"`    // of the lease's own token, which no lease of it outlives, in Unix seconds
	TTL      int64  `json:"ttl,omitempty"`    // that the target asks for, in seconds, where it does
	Lease    string `json:"lease,omitempty"`  // Vault's lease ID, once it is known
	Stands   bool   `json:"stands,omitempty"` // what was issued lives on when the lease has ended
}

func (h handle) String() string {
	h.Version = handleVersion
	b, err := json.Marshal(h)
	if err != nil {
		panic("vault: a handle of strings failed to encode: " + err.Error())
	}
	return string(b)
}

func parseHandle(s string) (handle, error) {
	var h handle
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.DisallowUnknownFields()
	err := d.Decode(&h)
	if err == nil && (h.Version != handleVersion || h.Accessor == "" || h.Path == "") {
		err = errors.New("vault: not a handle of this version")
	}
	if err != nil {
		return handle{}, &cred.Error{Kind: cred.Invalid, Op: "vault.handle", Public: "this lease was not made by a Vault issuer of this version, so it can't be handled by one", Err: err}
	}
	return h, nil
}
