package cred

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestGrantJSON holds what is written by hand against encoding/json, to the byte: grants of older
// versions are read by this one and the other way round.
func TestGrantJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGrant(t)
		want, wantErr := json.Marshal(wireOf(g))
		got, err := g.MarshalJSON()
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("the error is %v; encoding/json's is %v", err, wantErr)
		}
		if err == nil && string(got) != string(want) {
			t.Fatalf("got\n%s\nencoding/json writes\n%s", got, want)
		}
	})
}

// TestDigestJSON holds what a digest is made of against encoding/json: approvals are bound to digests
// that are in the store.
func TestDigestJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holder, r := drawPrincipal(t, 3), drawRequest(t)
		sorted := r
		sorted.Scopes = slices.Compact(slices.Sorted(slices.Values(r.Scopes)))
		canonical, err := json.Marshal(struct {
			Holder  identityWire
			Actor   *identityWire `json:",omitempty"`
			Request Request
		}{identityWire{holder.Provider, holder.Issuer, holder.Subject, nil}, actorWire(holder.Actor), sorted})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.Digest(holder), Digest(sha256.Sum256(canonical)); got != want {
			t.Fatalf("the digest is %s; that of %s is %s", got, canonical, want)
		}
	})
}

type identityWire struct {
	Provider, Issuer, Subject string
	Actor                     *identityWire `json:",omitempty"`
}

func actorWire(p *Principal) *identityWire {
	if p == nil {
		return nil
	}
	return &identityWire{p.Provider, p.Issuer, p.Subject, actorWire(p.Actor)}
}

func wireOf(g Grant) grantWire {
	return grantWire{
		g.ID, g.Holder, g.Want, g.Digest, g.Rule, g.PolicyHash, g.RetryKey,
		g.Deliver, g.Params, g.Key, g.Demand, g.TTL, g.Until, g.Approvals, g.Renewals, g.RenewedFrom, g.Review,
		g.CreatedAt, g.NotBefore, g.NotAfter, g.EndedAt, g.EndReason, g.state,
	}
}

func drawGrant(t *rapid.T) Grant {
	g := Grant{
		ID: GrantID(drawText(t)), Holder: drawPrincipal(t, 2), Want: drawRequest(t), Rule: drawText(t), PolicyHash: drawText(t),
		RetryKey: drawText(t), Deliver: Delivery(drawText(t)), Params: drawTexts(t), Key: drawText(t),
		TTL: time.Duration(drawInt(t)), Until: drawTime(t), Renewals: int(drawInt(t)), RenewedFrom: GrantID(drawText(t)),
		CreatedAt: drawTime(t), NotBefore: drawTime(t), NotAfter: drawTime(t), EndedAt: drawTime(t), EndReason: drawText(t),
		state: GrantState(drawText(t)), Rev: 7,
	}
	if rapid.Bool().Draw(t, "digest") {
		g.Digest = g.Want.Digest(g.Holder)
	}
	if rapid.Bool().Draw(t, "demand") {
		g.Demand = &Demand{AllOf: []Quorum{{Group: drawText(t), Count: 2}}, Within: time.Hour}
	}
	if rapid.Bool().Draw(t, "approvals") {
		g.Approvals = []Approval{{By: drawPrincipal(t, 1), Digest: g.Digest, At: drawTime(t)}}
	}
	if rapid.Bool().Draw(t, "review") {
		g.Review = &Review{Due: drawTime(t), Overdue: true}
	}
	return g
}

func drawRequest(t *rapid.T) Request {
	return Request{
		Target: drawText(t), Scopes: rapid.SliceOf(rapid.Custom(drawText)).Draw(t, "scopes"), Params: drawTexts(t),
		TTL: time.Duration(drawInt(t)), Reason: drawText(t), Binding: Binding(drawText(t)), IdempotencyKey: drawText(t),
	}
}

func drawPrincipal(t *rapid.T, actors int) Principal {
	p := Principal{
		Provider: drawText(t), Issuer: drawText(t), Subject: drawText(t), Name: drawText(t), Kind: PrincipalKind(drawText(t)),
		Cautions: drawTexts(t),
	}
	p.Groups = rapid.SampledFrom([][]string{nil, {}, {"a"}, {drawText(t), drawText(t)}}).Draw(t, "groups")
	p.Claims, _ = drawValue(t, 3).(map[string]any)
	if actors > 0 && rapid.Bool().Draw(t, "actor") {
		actor := drawPrincipal(t, actors-1)
		p.Actor = &actor
	}
	return p
}

// drawValue draws what stands in claims, and what never should.
func drawValue(t *rapid.T, depth int) any {
	kinds := []string{"object", "list", "text", "number", "bool", "null", "nil object", "nil list", "int", "time"}
	if depth == 0 {
		kinds = kinds[2:]
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "object":
		m := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			m[drawText(t)] = drawValue(t, depth-1)
		}
		return m
	case "list":
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			list = append(list, drawValue(t, depth-1))
		}
		return list
	case "text":
		return drawText(t)
	case "number":
		return rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, 1e-6, 1e-7, 1e20, 1e21, 1 << 53, 1.5, -3})).Draw(t, "number")
	case "bool":
		return rapid.Bool().Draw(t, "bool")
	case "nil object":
		return map[string]any(nil)
	case "nil list":
		return []any(nil)
	case "int":
		return drawInt(t)
	case "time":
		return drawTime(t)
	}
	return nil
}

func drawText(t *rapid.T) string {
	return rapid.OneOf(
		rapid.Just(""), rapid.StringMatching("[ -~]*"), rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	).Draw(t, "text")
}

func drawTexts(t *rapid.T) map[string]string {
	return rapid.MapOf(rapid.Custom(drawText), rapid.Custom(drawText)).Draw(t, "texts")
}

func drawInt(t *rapid.T) int64 { return rapid.SampledFrom([]int64{0, 1, -1, 1e18}).Draw(t, "int") }

func drawTime(t *rapid.T) time.Time {
	zone := rapid.SampledFrom([]*time.Location{time.UTC, time.FixedZone("", 3600), time.FixedZone("", 90)}).Draw(t, "zone")
	return rapid.SampledFrom([]time.Time{
		{}, time.Unix(1e9, 0), time.Unix(1e9, 120_000_000), time.Unix(-1, 1), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC),
	}).Draw(t, "time").In(zone)
}
