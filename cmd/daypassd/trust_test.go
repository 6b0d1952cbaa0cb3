package main

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/config"
)

// A broker that has just started does not know which certificates proxies show: until each has called, or
// would have, the old CA must stay.
func TestProxiesOfABrokerThatHasJustStarted(t *testing.T) {
	shown, err := loadTrust(config.Server{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	configured := []string{"edge", "spare"}
	now := time.Now()
	if seen := shown.seenLately(now, configured); len(seen) != 2 || seen[0].Certificate != nil {
		t.Fatalf("at once it knows of %+v", seen)
	}
	leaf := &x509.Certificate{}
	shown.saw("edge", leaf)
	seen := shown.seenLately(time.Now(), configured)
	if len(seen) != 2 {
		t.Fatalf("it knows of %+v", seen)
	}
	for _, s := range seen {
		if (s.Name == "edge") != (s.Certificate == leaf) {
			t.Errorf("%s showed %v", s.Name, s.Certificate)
		}
	}
	if seen := shown.seenLately(now.Add(seenFor-time.Minute), configured); len(seen) != 2 {
		t.Errorf("before long it knows of %+v", seen)
	}
	if seen := shown.seenLately(now.Add(2*seenFor), configured); len(seen) != 0 {
		t.Errorf("after two days without a call it knows of %+v", seen)
	}
}
