package policy

import (
	"fmt"
	"regexp"
	"slices"
	"time"
	_ "time/tzdata" // so that zones are known where the system has no time zone database

	"github.com/daypass-io/daypass/internal/strictyaml"
)

// farAhead is how far windows that follow each other are looked at: longer than any grant lives
// after the longest wait for its approval.
const farAhead = MaxTTL + maxWithin + 24*time.Hour

// window is a compiled Window. A window that begins on a day is open from the instant at which the
// clock of its zone first shows that day and from, or anything later, until the one at which it first
// shows to, or anything later. So a time that the clock skips counts at the change, and of a time that
// it shows twice the first counts, for both ends; a window that lies in what is skipped never opens.
type window struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes after midnight of the day on which it begins; to is larger
	zone     *time.Location
}

// on returns when the window opens and closes that begins on a day, given as its midnight in UTC. It
// does not open where that is not before it closes.
func (w window) on(day time.Time) (opens, closes time.Time) {
	if !w.days[day.Weekday()] {
		return day, day
	}
	at := func(minutes int) time.Time { return firstShown(day.Add(time.Duration(minutes)*time.Minute), w.zone) }
	return at(w.from), at(w.to)
}

// closing returns the end of the window that is open at an instant.
func (w window) closing(at time.Time) (time.Time, bool) {
	today := dayOf(at.In(w.zone))
	for back := -1; back <= 2; back++ { // a clock that is set back may show the day before again
		opens, closes := w.on(today.AddDate(0, 0, -back))
		if !at.Before(opens) && at.Before(closes) {
			return closes, true
		}
	}
	return time.Time{}, false
}

// opening returns when the window next opens after an instant.
func (w window) opening(after time.Time) (time.Time, bool) {
	today := dayOf(after.In(w.zone))
	for ahead := range 16 {
		opens, closes := w.on(today.AddDate(0, 0, ahead))
		if opens.After(after) && opens.Before(closes) {
			return opens, true
		}
	}
	return time.Time{}, false
}

// openUntil returns until when one of some windows is open without a break from an instant on, zero
// for longer than any grant lives; open is false where none is. No windows are always open.
func openUntil(all []window, at time.Time) (until time.Time, open bool) {
	if len(all) == 0 {
		return time.Time{}, true
	}
	until = at
	for {
		before := until
		for _, w := range all {
			if closes, ok := w.closing(until); ok {
				until = closes
			}
		}
		switch {
		case until.Equal(before):
			return until, until.After(at)
		case until.Sub(at) > farAhead:
			return time.Time{}, true
		}
	}
}

// nextOpening returns when the first of some windows opens after an instant, in the window's zone.
func nextOpening(all []window, after time.Time) (next time.Time, ok bool) {
	for _, w := range all {
		if opens, found := w.opening(after); found && (!ok || opens.Before(next)) {
			next, ok = opens.In(w.zone), true
		}
	}
	return next, ok
}

// dayOf returns the midnight, in UTC, of the day that a time's own clock shows.
func dayOf(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// firstShown returns the first instant at which the clock of a zone shows wall, given as if in UTC,
// or anything later.
func firstShown(wall time.Time, zone *time.Location) time.Time {
	at := wall.Add(-26 * time.Hour).In(zone) // no clock is 26 hours ahead of UTC
	for {
		_, offset := at.Zone()
		from, to := at.ZoneBounds()
		shown := wall.Add(-time.Duration(offset) * time.Second)
		if !from.IsZero() && shown.Before(from) {
			shown = from
		}
		if to.IsZero() || shown.Before(to) {
			return shown.UTC()
		}
		at = to
	}
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

func (c *compiler) windows(path string, all []Window) []window {
	var out []window
	for i, w := range all {
		at := strictyaml.Index(path, i)
		compiled := window{from: c.clock(at+".from", w.From), to: c.clock(at+".to", w.To), zone: c.zone(at+".zone", w.Zone)}
		for j, d := range w.Days {
			day := slices.Index(weekdays, d)
			if day < 0 {
				c.refuse(strictyaml.Index(at+".days", j), "is not a day", "days are mon, tue, wed, thu, fri, sat, sun")
				continue
			}
			compiled.days[day] = true
		}
		if len(w.Days) == 0 {
			compiled.days = [7]bool{true, true, true, true, true, true, true}
		}
		switch {
		case w.From == w.To:
			c.refuse(at+".to", "is the same as from", `write from "00:00" to "24:00" for whole days`)
		case w.From == "24:00":
			c.refuse(at+".from", "can't be 24:00", `write "00:00", and name the next day`)
		case compiled.to < compiled.from:
			compiled.to += 24 * 60
		}
		out = append(out, compiled)
	}
	return out
}

var clockPattern = regexp.MustCompile(`^(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)$`)

// clock reads a time of the day, as minutes after midnight.
func (c *compiler) clock(path, text string) int {
	if !clockPattern.MatchString(text) {
		c.refuse(path, "must be a time of the day such as \"06:30\"", "from 00:00 to 24:00, in quotes")
		return 0
	}
	var hours, minutes int
	if _, err := fmt.Sscanf(text, "%d:%d", &hours, &minutes); err != nil {
		c.refuse(path, "must be a time of the day such as \"06:30\"", "")
	}
	return hours*60 + minutes
}

func (c *compiler) zone(path, name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		c.refuse(path, "is not a time zone", `write a name of the IANA database such as "Europe/Berlin", or "UTC"`)
		return time.UTC
	}
	return zone
}
