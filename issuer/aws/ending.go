package aws

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// shortGrant is how much of a grant must be left for its session to end with it, whatever the tries take.
const shortGrant = minLife + time.Minute

// whole is the session policy that bounds nothing: a session may do what its role may.
const whole = `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}],"Version":"2012-10-17"}`

// endingAt returns a session policy that denies everything from an instant on, and before it allows what the
// given one does; empty: all, unless managed policies bound the session already. AWS makes no session shorter
// than 15 minutes, and this is how one of a shorter grant is of no use after it. An explicit Deny counts
// whatever else allows (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html),
// and each request has aws:CurrentTime (reference_policies_condition-keys.html).
func endingAt(policy string, managed bool, end time.Time) (string, error) {
	deny := fmt.Sprintf(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":%q}}}`, end.UTC().Format("2006-01-02T15:04:05Z"))
	switch {
	case policy == "" && managed: // an Allow would stand beside those of the managed policies, and widen them
		return `{"Statement":[` + deny + `],"Version":"2012-10-17"}`, nil
	case policy == "":
		policy = whole
	}
	var parts map[string]jsontext.Value
	if err := json.Unmarshal([]byte(policy), &parts); err != nil {
		return "", err
	}
	statements := []jsontext.Value{parts["Statement"]}
	if parts["Statement"].Kind() == '[' {
		if err := json.Unmarshal(parts["Statement"], &statements); err != nil {
			return "", err
		}
	}
	all, err := json.Marshal(append(statements, jsontext.Value(deny)))
	if err != nil {
		return "", err
	}
	parts["Statement"] = all
	text, err := json.Marshal(parts, json.Deterministic(true))
	return string(text), err
}
