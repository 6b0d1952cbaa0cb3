package vault

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

func TestNothingUsesAnEngineThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		var using, others, closings atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for n := range 20 {
			wg.Go(func() {
				for i := range 50 {
					path := "database/creds/a"
					if i%5 == 0 {
						path = "databases/creds/a" // another mount whose name begins alike
					}
					leave, err := c.use(ctx, path)
					if err != nil {
						t.Error(err)
						return
					}
					count := &using
					if i%5 == 0 {
						count = &others
					}
					count.Add(1)
					time.Sleep(time.Duration(n+i) * time.Millisecond)
					count.Add(-1)
					leave()
					leave() // once is enough
				}
			})
		}
		for range 30 {
			wg.Go(func() {
				err := c.alone(ctx, "database/", func() error {
					closings.Add(1)
					for range 20 {
						if using.Load() != 0 {
							t.Error("the engine is used while it is closed")
						}
						time.Sleep(time.Millisecond)
					}
					return nil
				})
				if err != nil && cred.KindOf(err) != cred.Pending {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if closings.Load() == 0 {
			t.Error("nobody closed it")
		}
		if len(c.users)+len(c.closed) != 0 {
			t.Errorf("left behind: %v, %v", c.users, c.closed)
		}
	})
}

func TestClosingWaitsForWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		leave, err := c.use(t.Context(), "database/creds/a")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.alone(t.Context(), "database/", func() error { t.Error("done while it is used"); return nil }); cred.KindOf(err) != cred.Pending {
			t.Errorf("closed while somebody stays: %v", err)
		}
		leave()
		boom := errors.New("boom")
		if err := c.alone(t.Context(), "database/", func() error { return boom }); !errors.Is(err, boom) {
			t.Errorf("what was done came back as %v", err)
		}
	})
}

func TestWhoWaitsForAClosedEngineGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm()
		err := c.alone(t.Context(), "database/", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := c.use(ctx, "database/creds/a")
			if cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("given up with %v", err)
			}
			leave, err := c.use(ctx, "secret/data/a")
			if err != nil {
				t.Errorf("another engine: %v", err)
				return nil
			}
			leave()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
