package flights_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/internal/flights"
)

func TestCloseWaits(t *testing.T) {
	for name, c := range map[string]struct{ takes, want time.Duration }{
		"it ends in time": {time.Second, time.Second},
		"it is overdue":   {time.Hour, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, began := flights.New(), time.Now()
				if !g.Go(func() {
					select {
					case <-time.After(c.takes):
					case <-g.Life().Done():
					}
				}) {
					t.Fatal("it did not run")
				}
				g.Close(time.Minute)
				if took := time.Since(began); took != c.want {
					t.Errorf("Close took %v, want %v", took, c.want)
				}
				if g.Life().Err() == nil {
					t.Error("the context lives on")
				}
			})
		})
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	g := flights.New()
	g.Close(time.Minute)
	if g.Go(func() { t.Error("it ran") }) {
		t.Error("a closed group runs something")
	}
}

// TestAwait holds that what is made is either returned or undone.
func TestAwait(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		fails error
		want  error
		undo  bool
	}{
		"in time":           {takes: time.Second},
		"fails in time":     {takes: time.Second, fails: io.EOF, want: io.EOF},
		"comes late":        {takes: time.Hour, want: flights.ErrLeft, undo: true},
		"fails late":        {takes: time.Hour, fails: io.EOF, want: flights.ErrLeft},
		"nothing may begin": {takes: -1, want: flights.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				g, undone := flights.New(), false
				if c.takes < 0 {
					g.Close(0)
				}
				made, err := flights.Await(ctx, g.Go, func() (string, error) {
					time.Sleep(c.takes)
					return "made", c.fails
				}, func(late string) { undone = late == "made" })
				g.Close(2 * time.Hour)
				if !errors.Is(err, c.want) || undone != c.undo || (err == nil) != (made == "made" && c.want == nil) {
					t.Errorf("%q, %v, undone %v", made, err, undone)
				}
				if errors.Is(err, flights.ErrLeft) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v does not say why", err)
				}
			})
		})
	}
}
