package policy

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func upkeepOf(t interface{ Fatal(...any) }, every time.Duration, windows ...Window) Upkeep {
	u, problems := CompileUpkeep(Source{}, "rotations[0]", &Schedule{Every: every, Windows: windows}, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	return u
}

func TestUpkeepNext(t *testing.T) {
	night := Window{Days: []string{"sat"}, From: "22:00", To: "02:00", Zone: "Europe/Berlin"}
	at := func(day, hour int) time.Time { return time.Date(2026, time.March, day, hour, 0, 0, 0, time.UTC) } // the 7th is a Saturday
	for name, c := range map[string]struct {
		u               Upkeep
		last, now, want time.Time
	}{
		"no schedule":               {Upkeep{}, at(1, 0), at(2, 0), time.Time{}},
		"no windows, to come":       {upkeepOf(t, 48*time.Hour), at(1, 0), at(2, 0), at(3, 0)},
		"no windows, past":          {upkeepOf(t, 48*time.Hour), at(1, 0), at(5, 0), at(3, 0)},
		"never before, closed":      {upkeepOf(t, 48*time.Hour, night), time.Time{}, at(5, 0), at(7, 21)},
		"never before, open":        {upkeepOf(t, 48*time.Hour, night), time.Time{}, at(7, 22), time.Time{}},
		"the window to come":        {upkeepOf(t, 48*time.Hour, night), at(1, 0), at(2, 0), at(7, 21)},
		"in the window":             {upkeepOf(t, 48*time.Hour, night), at(1, 0), at(7, 23), at(3, 0)},
		"after it":                  {upkeepOf(t, 48*time.Hour, night), at(1, 0), at(8, 1), at(14, 21)},
		"it became due in a window": {upkeepOf(t, 48*time.Hour, night), at(5, 23), at(7, 22), at(7, 23)},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.u.Next(c.last, c.now)
			if c.want.IsZero() && c.u.every > 0 {
				if got.After(c.now) {
					t.Errorf("it is due at %v", got)
				}
				return
			}
			if !got.Equal(c.want) {
				t.Errorf("it is due at %v, want %v", got, c.want)
			}
		})
	}
}

// What is to be done now is in a window, and never before its time; what is to come, too.
func TestUpkeepNextIsInAWindow(t *testing.T) {
	base := time.Date(2026, time.March, 20, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		day := rapid.SampledFrom(weekdays).Draw(t, "day")
		w := Window{Days: []string{day}, From: "01:00", To: rapid.SampledFrom([]string{"02:30", "05:00", "00:30"}).Draw(t, "to"), Zone: "Europe/Berlin"}
		u := upkeepOf(t, time.Duration(rapid.IntRange(1, 1000).Draw(t, "every"))*time.Hour, w)
		last := base.Add(time.Duration(rapid.IntRange(0, 60*24*30).Draw(t, "last")) * time.Minute)
		now := last.Add(time.Duration(rapid.IntRange(0, 60*24*60).Draw(t, "later")) * time.Minute)
		next := u.Next(last, now)
		when := next
		if !next.After(now) {
			when = now
		}
		if _, open := openUntil(u.windows, when); !open || when.Before(last.Add(u.every)) {
			t.Fatalf("seen from %v it is done at %v, in a window: %v, due since %v", now, when, open, last.Add(u.every))
		}
	})
}

func TestRulesFor(t *testing.T) {
	set, problems := Compile(Source{
		Targets: []Target{{Name: "db", Deliver: "direct", Credential: Credential{Issuer: "vault"}}, {Name: "free", Deliver: "direct", Credential: Credential{Issuer: "vault"}}},
		Rules: []Rule{
			{Name: "b", Who: "true", TTL: time.Minute, May: []May{{Target: "d*"}, {Target: "db"}}},
			{Name: "a", Who: "true", TTL: time.Minute, May: []May{{Target: "db"}}},
		},
	})
	if problems != nil {
		t.Fatal(problems)
	}
	if got := set.RulesFor("db"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("rules %v", got)
	}
	if got := append(set.RulesFor("free"), set.RulesFor("none")...); len(got) != 0 {
		t.Errorf("rules %v", got)
	}
}
