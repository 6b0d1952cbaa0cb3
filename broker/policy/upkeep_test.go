package policy_test

import (
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func upkeep(t *testing.T, text string) (policy.Upkeep, strictyaml.Problems) {
	t.Helper()
	root, problems := strictyaml.Parse("daypass.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var file struct {
		Rotation struct {
			Schedule *policy.Schedule `yaml:"schedule"`
			Approval *policy.Approval `yaml:"approval"`
		} `yaml:"rotation"`
	}
	if problems := root.Decode(&file); len(problems) > 0 {
		t.Fatal(problems)
	}
	return policy.CompileUpkeep(policy.Source{At: root}, "rotation", file.Rotation.Schedule, file.Rotation.Approval)
}

func TestUpkeepIsDueInItsWindow(t *testing.T) {
	u, problems := upkeep(t, `
rotation:
  schedule:
    every: 720h
    windows: [{ days: [sat], from: "02:00", to: "05:00", zone: Europe/Berlin }]
`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(month time.Month, day, hour int) time.Time {
		return time.Date(2026, month, day, hour, 0, 0, 0, berlin)
	}
	for name, c := range map[string]struct{ last, now, due time.Time }{
		"a window that comes later": {at(11, 1, 12), at(11, 2, 0), at(12, 5, 2)},
		"in the open window":        {at(11, 5, 3), at(11, 6, 0), at(12, 5, 3)},
		"over the change of clocks": {at(2, 26, 13), at(2, 27, 0), at(4, 4, 2)},
		"a window that was missed":  {at(10, 1, 0), at(11, 2, 0), at(11, 7, 2)},
		"late, in the next window":  {at(10, 1, 0), at(11, 7, 3), at(10, 30, 23)},
		"never yet":                 {time.Time{}, at(11, 2, 0), at(11, 7, 2)},
	} {
		if got := u.Next(c.last, c.now); !got.Equal(c.due) {
			t.Errorf("%s: due at %s, want %s", name, got.In(berlin), c.due)
		}
	}
	if got := u.Next(time.Time{}, at(11, 7, 3)); got.IsZero() || got.After(at(11, 7, 3)) {
		t.Errorf("never yet, in the window: due at %s", got)
	}
	if u.Demand != nil {
		t.Errorf("asks %v", u.Demand)
	}
}

func TestUpkeepWithoutSchedule(t *testing.T) {
	u, problems := upkeep(t, "rotation: { approval: { all_of: [{ group: security, count: 2 }], within: 24h } }")
	if len(problems) > 0 || !u.Next(time.Now(), time.Now()).IsZero() || u.Demand == nil || u.Demand.InWords() != "2 of security" {
		t.Errorf("%v, due %s, asks %v", problems, u.Next(time.Now(), time.Now()), u.Demand)
	}
}

func TestUpkeepRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"too often":        "rotation: { schedule: { every: 10m } }",
		"hardly ever":      "rotation: { schedule: { every: 5000d } }",
		"no such zone":     `rotation: { schedule: { every: 24h, windows: [{ from: "02:00", to: "05:00", zone: Atlantis }] } }`,
		"nobody agrees":    "rotation: { approval: { within: 24h } }",
		"whoever is there": "rotation: { approval: { all_of: [{ group: security, count: 1 }], within: 24h, on_call: primary } }",
	} {
		if _, problems := upkeep(t, text); len(problems) == 0 {
			t.Errorf("%s: accepted", name)
		} else if problems[0].Line == 0 {
			t.Errorf("%s: %v has no place", name, problems[0])
		}
	}
}
