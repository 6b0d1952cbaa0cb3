package main

import "testing"

func TestServes(t *testing.T) {
	for _, c := range []struct {
		targets []string
		target  string
		want    bool
	}{
		{nil, "orders", true},
		{[]string{"orders"}, "orders", true},
		{[]string{"orders"}, "orders-eu", false},
		{[]string{"pay", "orders*"}, "orders-eu", true},
		{[]string{"*"}, "team/orders", true}, // as the broker reads it: any characters
		{[]string{"a*c"}, "a-b/c", true},
		{[]string{"orders?"}, "orders1", false},
	} {
		if got := (&config{Targets: c.targets}).serves(c.target); got != c.want {
			t.Errorf("%q serves %q: %v, want %v", c.targets, c.target, got, c.want)
		}
	}
}
