// Package notice tells people what waits for them and what happened: by webhook, in Slack and
// Microsoft Teams, and by e-mail.
//
// Enqueue writes a notice into the caller's transaction, so that there is one exactly where the change
// that it tells of is on disk. A Dispatcher sends what is due through one Sender for each channel. It
// writes down when the next try is due before it tries, so a crash looks like a failure: the notice
// is sent again, with the ID that it had. What can't be sent within 24 hours is given up, and the
// audit log says so.
//
// What requesters write (reasons, names) is hostile: each Sender escapes it for its medium.
package notice
