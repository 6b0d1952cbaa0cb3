package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// changes are days around which clocks were set, each in another way: by an hour and by half an hour,
// forward and back, at midnight and a minute after it, and over a whole day.
var changes = []struct{ zone, day string }{
	{"Europe/Berlin", "2026-03-29"},
	{"Europe/Berlin", "2026-10-25"},
	{"America/New_York", "2026-03-08"},
	{"America/New_York", "2026-11-01"},
	{"Australia/Lord_Howe", "2026-04-05"},
	{"Australia/Lord_Howe", "2026-10-04"},
	{"Africa/Cairo", "2026-04-24"},
	{"Africa/Cairo", "2026-10-30"},
	{"America/Havana", "2026-03-08"},
	{"America/Havana", "2026-11-01"},
	{"America/St_Johns", "2006-10-29"},
	{"America/St_Johns", "2006-04-02"},
	{"America/Sao_Paulo", "2018-02-18"},
	{"America/Sao_Paulo", "2018-11-04"},
	{"Africa/Casablanca", "2026-03-22"},
	{"Pacific/Apia", "2011-12-30"},
	{"Asia/Kathmandu", "2026-06-01"},
	{"UTC", "2026-12-31"},
}

// clockModel says minute by minute when some windows are open, by looking at the clock alone.
type clockModel struct {
	start time.Time
	open  []bool
}

// modelOf looks at five days on each side of a day.
func modelOf(all []Window, day time.Time) clockModel {
	m := clockModel{start: day.AddDate(0, 0, -5), open: make([]bool, 10*24*60)}
	for _, w := range all {
		zone, _ := time.LoadLocation(w.Zone)
		for d := day.AddDate(0, 0, -8); d.Before(day.AddDate(0, 0, 8)); d = d.AddDate(0, 0, 1) {
			if len(w.Days) > 0 && !slices.Contains(w.Days, strings.ToLower(d.Weekday().String()[:3])) {
				continue
			}
			closing := d
			if w.To <= w.From {
				closing = d.AddDate(0, 0, 1)
			}
			from, to := firstMinute(zone, d, w.From), firstMinute(zone, closing, w.To)
			for at := from; at.Before(to); at = at.Add(time.Minute) {
				if i := int(at.Sub(m.start) / time.Minute); i >= 0 && i < len(m.open) {
					m.open[i] = true
				}
			}
		}
	}
	return m
}

// firstMinute returns the first minute at which a zone's clock shows a day and time, or later ones.
func firstMinute(zone *time.Location, day time.Time, clock string) time.Time {
	var hours, minutes int
	fmt.Sscanf(clock, "%d:%d", &hours, &minutes)
	want := day.Add(time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute)
	for at := day.Add(-28 * time.Hour); ; at = at.Add(time.Minute) {
		shown := at.In(zone)
		if _, offset := shown.Zone(); !shown.Add(time.Duration(offset) * time.Second).Before(want) {
			return at
		}
	}
}

// TestWindowsAgreeWithTheClock compares windows with the model around changes of the clock.
func TestWindowsAgreeWithTheClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := rapid.SampledFrom(changes).Draw(t, "change")
		day, err := time.Parse(time.DateOnly, change.day)
		if err != nil {
			t.Fatal(err)
		}
		all := rapid.SliceOfN(drawWindow(change.zone), 1, 3).Draw(t, "windows")
		c := &compiler{set: &Set{}}
		compiled := c.windows("windows", all)
		if len(c.problems) > 0 {
			t.Fatal(c.problems)
		}
		m := modelOf(all, day)
		for range 50 {
			i := rapid.IntRange(24*60, 9*24*60-1).Draw(t, "minute")
			at := m.start.Add(time.Duration(i)*time.Minute + time.Duration(rapid.IntRange(0, 59).Draw(t, "second"))*time.Second)
			checkWindow(t, m, compiled, i, at)
		}
	})
}

func checkWindow(t *rapid.T, m clockModel, all []window, minute int, at time.Time) {
	until, open := openUntil(all, at)
	if open != m.open[minute] {
		t.Fatalf("at %s open is %v, want %v", at.In(all[0].zone), open, m.open[minute])
	}
	if length := slices.Index(m.open[minute:], !open); length > 0 { // else it ends behind what the model knows
		changes := m.start.Add(time.Duration(minute+length) * time.Minute)
		if open && !until.Equal(changes) {
			t.Fatalf("at %s open until %s, want %s", at.In(all[0].zone), until.In(all[0].zone), changes.In(all[0].zone))
		}
		if next, ok := nextOpening(all, at); !open && (!ok || !next.Equal(changes)) {
			t.Fatalf("at %s next opens %s, want %s", at.In(all[0].zone), next, changes.In(all[0].zone))
		}
	}
}

func drawWindow(zone string) *rapid.Generator[Window] {
	return rapid.Custom(func(t *rapid.T) Window {
		clock := func(name string, last int) string {
			minutes := rapid.OneOf(rapid.IntRange(0, last), rapid.SampledFrom([]int{0, 1, 30, 60, 90, 120, 150, 180, 1380, 1410})).Draw(t, name)
			return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60)
		}
		w := Window{
			From: clock("from", 24*60-1), To: clock("to", 24*60), Zone: zone,
			Days: rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays), 0, 7, rapid.ID).Draw(t, "days"),
		}
		if w.From == w.To {
			w.From, w.To = "00:00", "24:00"
		}
		return w
	})
}

// TestWindows checks single instants, with what the clocks showed then.
func TestWindows(t *testing.T) {
	night := Window{Days: []string{"sat"}, From: "22:00", To: "06:00", Zone: "Europe/Berlin"}
	between := func(from, to string) Window { return Window{From: from, To: to, Zone: "Europe/Berlin"} }
	for _, c := range []struct {
		name    string
		windows []Window
		at      string
		until   string // empty: closed; "-": no end
	}{
		{"before it opens", []Window{night}, "2026-03-28T21:59:59+01:00", ""},
		{"as it opens", []Window{night}, "2026-03-28T22:00:00+01:00", "2026-03-29T06:00:00+02:00"},
		{"seven hours when the clock is set forward", []Window{night}, "2026-03-29T05:59:59+02:00", "2026-03-29T06:00:00+02:00"},
		{"as it closes", []Window{night}, "2026-03-29T06:00:00+02:00", ""},
		{"the day names its beginning", []Window{night}, "2026-03-29T22:00:00+02:00", ""},
		{"nine hours when the clock is set back", []Window{night}, "2026-10-24T22:00:00+02:00", "2026-10-25T06:00:00+01:00"},
		{"a beginning that does not exist is the change", []Window{between("02:30", "03:30")}, "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"},
		{"an end that does not exist is the change", []Window{between("01:30", "02:30")}, "2026-03-29T01:59:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"a window within what is skipped", []Window{between("02:10", "02:50")}, "2026-03-29T03:00:00+02:00", ""},
		{"an end that exists twice is the first", []Window{between("01:30", "02:30")}, "2026-10-25T02:29:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"and does not open again", []Window{between("01:30", "02:30")}, "2026-10-25T02:29:00+01:00", ""},
		{"a beginning that exists twice is the first", []Window{between("02:30", "04:00")}, "2026-10-25T02:30:00+02:00", "2026-10-25T04:00:00+01:00"},
		{"windows that follow each other", []Window{between("08:00", "12:00"), between("12:00", "18:00")}, "2026-06-01T09:00:00+02:00", "2026-06-01T18:00:00+02:00"},
		{"windows that overlap", []Window{between("08:00", "12:00"), between("11:00", "18:00")}, "2026-06-01T09:00:00+02:00", "2026-06-01T18:00:00+02:00"},
		{"windows of two zones", []Window{between("08:00", "12:00"), {From: "10:00", To: "11:00", Zone: "UTC"}}, "2026-06-01T11:59:00+02:00", "2026-06-01T13:00:00+02:00"},
		{"a gap of a minute", []Window{between("08:00", "12:00"), between("12:01", "18:00")}, "2026-06-01T09:00:00+02:00", "2026-06-01T12:00:00+02:00"},
		{"a clock that is set back to the day before", []Window{{Days: []string{"sun"}, From: "00:00", To: "01:00", Zone: "America/St_Johns"}}, "2006-10-28T23:30:00-03:30", "2006-10-29T01:00:00-03:30"},
		{"the whole day", []Window{{Days: []string{"mon"}, From: "00:00", To: "24:00", Zone: "UTC"}}, "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"},
		{"every day", []Window{between("00:00", "24:00")}, "2026-06-01T09:00:00+02:00", "-"},
		{"every hour", []Window{between("06:00", "20:00"), between("20:00", "06:00")}, "2026-06-01T09:00:00+02:00", "-"},
		{"none", nil, "2026-06-01T09:00:00+02:00", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiled := (&compiler{set: &Set{}}).windows("", c.windows)
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			until, open := openUntil(compiled, at)
			want, _ := time.Parse(time.RFC3339, c.until)
			if open != (c.until != "") || open && !until.Equal(want) {
				t.Errorf("open %v until %s, want %s", open, until, c.until)
			}
		})
	}
}

const atNight = `
targets: [ { name: t, credential: { issuer: i } } ]
rules:
  - name: nights
    who: principal.provider == "okta"
    may: [ { target: t } ]
    ttl: 8h
    windows: [ { from: "22:00", to: "06:00", zone: Europe/Berlin } ]
`

// TestGrantEndsWithItsWindow: a decision names the window's end, and the lifetime is cut to it unless
// the grant begins later, after its approval.
func TestGrantEndsWithItsWindow(t *testing.T) {
	now := time.Date(2026, 6, 1, 2, 30, 0, 0, time.UTC) // 04:30 in Berlin
	d := compiled(t, atNight).Decide(person(), cred.Request{Target: "t"}, now)
	if want := now.Add(90 * time.Minute); !d.Until.Equal(want) || d.TTL != 90*time.Minute {
		t.Errorf("until %s for %s, want %s", d.Until, d.TTL, want)
	}
	d = compiled(t, atNight+"    approval: { all_of: [ { group: leads } ], within: 1h }\n").Decide(person(), cred.Request{Target: "t"}, now)
	if want := now.Add(90 * time.Minute); !d.Until.Equal(want) || d.TTL != 8*time.Hour || d.Demand == nil {
		t.Errorf("with approval until %s for %s, want %s", d.Until, d.TTL, want)
	}
}
