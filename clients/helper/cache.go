package helper

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/userstate"
)

// Cache is a Source that asks a broker once for what it wants, and keeps it in sealed files until
// shortly before its end, for all processes of the person. Of several that miss one asks, and the
// others wait for it. It is safe for concurrent use.
type Cache struct {
	State  *userstate.Dir
	Broker string // its URL
	// Holder tells who asks, such as issuer and subject: nobody gets what somebody else was granted.
	Holder func(ctx context.Context) (string, error)
	// Exchange asks the broker, as sdk.Client.Exchange does.
	Exchange func(ctx context.Context, want cred.Request) (sdk.Granted, error)
	Now      func() time.Time
}

// margin is how long before its end a grant is used no more: a minute, or a tenth of its life where
// that is less.
func margin(life time.Duration) time.Duration { return min(time.Minute, life/10) }

// Get is Source's.
func (c Cache) Get(ctx context.Context, want cred.Request) (Granted, error) {
	name, err := c.name(ctx, want)
	if err != nil {
		return Granted{}, err
	}
	if g, ok := c.load(name); ok {
		return g, nil
	}
	unlock, err := c.State.Lock(ctx, name)
	if err != nil {
		return Granted{}, err
	}
	defer unlock()
	if g, ok := c.load(name); ok {
		return g, nil // another process was first
	}
	asked := c.Now()
	got, err := c.Exchange(ctx, want)
	if err != nil {
		return Granted{}, err
	}
	g := usable(got, asked)
	return g, errors.Join(c.keep(ctx, name, g), c.sweep())
}

// Drop is Source's.
func (c Cache) Drop(ctx context.Context, want cred.Request, means func(Granted) bool) error {
	name, err := c.name(ctx, want)
	if err != nil {
		return err
	}
	unlock, err := c.State.Lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if g, ok := c.load(name); ok && !means(g) {
		return nil // it was replaced meanwhile
	}
	return c.State.Drop(name)
}

// Clear forgets everything that was granted at a broker, for whomever.
func Clear(state *userstate.Dir, broker string) error {
	names, err := state.Names(userstate.Prefix(kind, broker))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := state.Drop(name); err != nil {
			return err
		}
	}
	return nil
}

// kind is what cached grants are called in the person's state.
const kind = "grant"

// name is what a request's grant is kept under: broker, holder, target, scopes in any order, parameters
// and the life that was asked for. The reason is no part of it.
func (c Cache) name(ctx context.Context, want cred.Request) (string, error) {
	holder, err := c.Holder(ctx)
	if err != nil {
		return "", err
	}
	words := append([]string{holder, want.Target, want.TTL.String()}, slices.Compact(slices.Sorted(slices.Values(want.Scopes)))...)
	words = append(words, "") // no scope is empty
	for _, param := range slices.Sorted(maps.Keys(want.Params)) {
		words = append(words, param, want.Params[param])
	}
	return userstate.Name(kind, c.Broker, words...), nil
}

// usable is a grant as tools see it: it ends with whichever ends first, the grant or its credential,
// and a margin before.
func usable(got sdk.Granted, asked time.Time) Granted {
	g := Granted{Grant: cred.GrantID(got.Grant.GetId()), Fields: map[string]cred.Secret{"token": got.Token}}
	if t := got.Grant.GetExpireTime(); t != nil {
		g.End = t.AsTime()
	}
	if got.Credential != nil {
		g.Fields = got.Credential.Fields
		if end := got.Credential.NotAfter; !end.IsZero() && (g.End.IsZero() || end.Before(g.End)) {
			g.End = end
		}
	}
	if !g.End.IsZero() {
		g.End = g.End.Add(-margin(g.End.Sub(asked)))
	}
	return g
}

// sweep forgets what has ended.
func (c Cache) sweep() error {
	names, err := c.State.Names(userstate.Prefix(kind, c.Broker))
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, live := c.load(name); !live {
			err = errors.Join(err, c.State.Drop(name))
		}
	}
	return err
}

// grantWire is how a grant is kept.
type grantWire struct {
	Grant  cred.GrantID      `json:"grant"`
	Fields map[string]string `json:"fields"`
	End    time.Time         `json:"end,omitzero"`
}

func (c Cache) keep(ctx context.Context, name string, g Granted) error {
	w := grantWire{g.Grant, make(map[string]string, len(g.Fields)), g.End}
	for field, value := range g.Fields {
		w.Fields[field] = value.RevealString()
	}
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return c.State.Keep(ctx, name, cred.NewSecret(b))
}

// load returns what is kept and not ended. What can't be read is as good as not there.
func (c Cache) load(name string) (Granted, bool) {
	b, err := c.State.Load(name)
	if err != nil {
		return Granted{}, false
	}
	var w grantWire
	if err := json.Unmarshal(b.Reveal(), &w); err != nil || !w.End.IsZero() && !c.Now().Before(w.End) {
		return Granted{}, false
	}
	g := Granted{w.Grant, make(map[string]cred.Secret, len(w.Fields)), w.End}
	for field, value := range w.Fields {
		g.Fields[field] = cred.SecretString(value)
	}
	return g, true
}
