package broker

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// maxUnanswered is how often in a row a step is begun and has no outcome before people are told. Once is
// a broker that was restarted, and twice may be chance; what ends it three times in the same step is
// likely that step.
const maxUnanswered = 3

var errUnanswered = &cred.Error{
	Kind: cred.Unavailable, Op: "rotation", Reason: "NO_OUTCOME",
	Public: "the broker ended three times in the middle of this step, or could not write what came of it, and its outcome is not known",
}

// unanswered is where a rotation stands before its step is begun once more, as far as that has had no
// outcome again and again.
func unanswered(r cred.Rotation) ending {
	end := ending{next: r}
	if r.Open >= maxUnanswered {
		end.next.Why = errUnanswered.Public
		end.alarmed(errUnanswered.Public)
	}
	return end
}

// claimFor is how long a step that is begun is left to who begins it. Should that be cut off once more
// after it was again and again, the next try is spaced like every other of a step that is stuck.
func (b *Broker) claimFor(r cred.Rotation) time.Duration {
	if r.Open >= maxUnanswered {
		return max(b.cfg.RotateTimeout, stuckRetry)
	}
	return b.cfg.RotateTimeout
}
