package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
)

// A rotation whose receipt can't be signed is not done before it can.
func TestReceiptIsSignedInTheEnd(t *testing.T) {
	w := newRotating(t)
	fail := true
	sign := w.cfg.Sign
	w.Broker.cfg.Sign = func(text string) (string, error) {
		if fail {
			return "", errors.New("the key is away")
		}
		return sign(text)
	}
	id := w.begin().ID
	w.advance()
	if rot := w.get(id); rot.State() != cred.RotationRunning || rot.Step() != cred.StepRetire || rot.Receipt != "" {
		t.Fatalf("it is %s at %s", rot.State(), rot.Step())
	}
	fail = false
	if rot := w.finish(id); rot.State() != cred.RotationDone || rot.Receipt == "" {
		t.Errorf("it is %s, with the receipt %q", rot.State(), rot.Receipt)
	}
	w.wantSteps(id, goodSteps...)
}

// A rotation whose root is taken out of the configuration half-way does not stop in silence, and goes on
// once the root is back.
func TestRootIsTakenAway(t *testing.T) {
	w := newRotating(t)
	w.root.plan("switch", doneLost)
	id := w.begin().ID
	w.advance()
	kept := w.roots
	w.roots = nil
	w.start()
	for range 25 {
		w.advance()
		w.clock.advance(time.Minute)
	}
	if rot := w.get(id); !rot.Alarmed || rot.Step() != cred.StepSwitch || len(w.told(notice.RotationStuck)) != 1 {
		t.Errorf("it is at %s, alarmed %v", rot.Step(), rot.Alarmed)
	}
	w.roots = kept
	w.start()
	w.wantEnd(w.finish(id), cred.RotationDone)
}
