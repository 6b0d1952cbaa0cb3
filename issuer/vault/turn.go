package vault

import "context"

// turn is the right to work on one lease.
type turn struct {
	taken chan struct{} // holds one element while somebody has the turn
	users int           // owner: Issuer.mu. Who has it, or waits for it
}

// alone waits until nobody else of this process renews or revokes a lease, and keeps others from it
// until release is called. Vault promises no order between the two: it reads a lease, lets the engine
// renew and then writes the lease. With the database engine, which does one thing at a time, nothing was
// seen to go wrong; others need not do so.
func (i *Issuer) alone(ctx context.Context, accessor string) (release func(), err error) {
	t := i.queue(accessor)
	select {
	case t.taken <- struct{}{}:
		return func() {
			<-t.taken
			i.dequeue(accessor, t)
		}, nil
	case <-ctx.Done():
		i.dequeue(accessor, t)
		return nil, ctx.Err()
	}
}

func (i *Issuer) queue(accessor string) *turn {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.turns[accessor]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		i.turns[accessor] = t
	}
	t.users++
	return t
}

func (i *Issuer) dequeue(accessor string, t *turn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(i.turns, accessor)
	}
}
