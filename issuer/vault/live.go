package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// Live returns the IDs of all leases that Vault has under Config.Paths, those that others made there and
// wrappings that nobody has opened yet (see the parameter wrap) included. Paths of key-value stores have
// none. It returns all of them or an error: Denied with the reason LIST_FORBIDDEN where the issuer's
// token may not list (sys/leases/lookup/PATH needs list and sudo), else Unavailable.
//
// A lease's ID is no secret: it takes a token with the right to it to do anything with one.
func (i *Issuer) Live(ctx context.Context) ([]string, error) {
	var all []string
	for _, path := range *i.paths.Load() {
		m, err := i.mount(ctx, path)
		if err != nil {
			return nil, listFailed(err)
		}
		if m.engine == "kv2" || m.engine == "kv1" {
			continue
		}
		leases, err := i.listLeases(ctx, path)
		if err != nil {
			return nil, listFailed(err)
		}
		all = append(all, leases...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// NameOf returns the ID of a lease in Vault. It is empty where there is none, where it was never learnt,
// as after a crash, and for a path that Live does not list.
func (i *Issuer) NameOf(l cred.Lease) string {
	h, err := parseHandle(l.Handle)
	if err != nil || !slices.Contains(*i.paths.Load(), h.Path) {
		return ""
	}
	return h.Lease
}

func listFailed(err error) error {
	if statusOf(err) == http.StatusForbidden {
		return &cred.Error{
			Kind: cred.Denied, Op: "vault.live", Reason: "LIST_FORBIDDEN",
			Public: "the broker may not list its leases in Vault: its policy needs list and sudo on sys/leases/lookup/PATH/", Err: err,
		}
	}
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault.live", Public: publicGone, RetryAfter: retryAfter(err), Err: err}
}

// listLeases returns the IDs of a path's leases, none where Vault knows none (404).
func (i *Issuer) listLeases(ctx context.Context, path string) ([]string, error) {
	var leases []string
	_, err := i.asBroker(ctx, request{
		method: "GET", path: "sys/leases/lookup/" + path + "/", params: url.Values{"list": {"true"}},
		read: func(body io.Reader) error {
			leases = nil
			return readKeys(body, func(name string) {
				if !strings.HasSuffix(name, "/") { // else a folder of another path's
					leases = append(leases, path+"/"+name)
				}
			})
		},
	})
	if nothingListed(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return leases, nil
}

var errNoKeys = errors.New("vault: the answer to a list holds no keys")

// readKeys calls each for the names in the answer to a list, {"data":{"keys":[…]}}, one after the other,
// so that many thousands take no more memory than they need.
func readKeys(body io.Reader, each func(string)) error {
	d := json.NewDecoder(body)
	if err := enter(d, "data"); err != nil {
		return err
	}
	if err := enter(d, "keys"); err != nil {
		return err
	}
	if err := expect(d, '['); err != nil {
		return err
	}
	for d.More() {
		var name string
		if err := d.Decode(&name); err != nil {
			return err
		}
		each(name)
	}
	return expect(d, ']')
}

// enter reads an object up to the value of a member.
func enter(d *json.Decoder, member string) error {
	if err := expect(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		if name == member {
			return nil
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return err
		}
	}
	return errors.Join(errNoKeys, expect(d, '}'))
}

// expect reads one delimiter.
func expect(d *json.Decoder, delimiter json.Delim) error {
	token, err := d.Token()
	if err == nil && token != delimiter {
		err = errNoKeys
	}
	return err
}
