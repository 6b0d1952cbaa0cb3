// Package quota bounds how often grants are made: for each target by a token bucket for each
// principal and one for all together (cred.Quota).
//
// A bucket of N that fills in Per is full at first, holds N at the most, and gets one token back
// every Per/N. So no span of time t, wherever it begins, sees more than N + N·t/Per calls.
//
// # Whom a call is charged to
//
// To the holder. What an agent does counts against the person whom it acts for, whichever agent it
// is: otherwise a person's quota would grow with the number of their agents.
//
// # Fairness
//
// A bucket for all could be drained by one caller. So, once anybody else has asked for the target in
// this period or the one before (a period is Per of the total, from its first call on), a principal
// that has taken u tokens of the total in this period gets one more only while more than u are left.
// Three things follow:
//
//   - Whoever has taken less goes first. Where a call is refused for the total, every principal that
//     has taken as much or more is refused too.
//   - Whoever has taken nothing in this period gets the next token there is, before everybody who has
//     taken any. It waits for Per/N, and as often again as there are others who have taken nothing
//     either. That the others ask a thousand times a second changes nothing.
//   - Nothing is lost. A principal that asks alone has the whole bucket, and when several ask, what
//     is not taken stays for them: k callers that ask all the time get about N/k each in a period.
//
// # What it is not
//
// The buckets are in memory. A restart fills them, and several brokers over one store each have their
// own: divide the quota by their number.
package quota
