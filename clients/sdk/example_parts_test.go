package sdk_test

import (
	"time"

	"github.com/daypass-io/daypass/cred"
)

// What the examples stand on.

func connect(user string, password []byte) { _, _ = user, password }

type sessions map[cred.GrantID]time.Time

func newSessions() sessions { return sessions{} }

func (s sessions) end(id cred.GrantID, until time.Time) { s[id] = until }

func (s sessions) confirm() {}
