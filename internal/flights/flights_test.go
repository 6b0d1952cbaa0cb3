package flights_test

import (
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
