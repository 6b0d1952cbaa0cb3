// Package proxy spends credentials for callers who never see them. A caller holds a grant token;
// the proxy verifies it offline, redeems it once for the credential that it stands for, spends the
// credential on the caller's behalf, masks what comes back, and writes down every use.
//
// Four verbs carry every protocol: [Proxy.Open] turns a grant token into a [Session],
// [Session.Begin] records that an operation is about to happen and gives a [Use], [Use.Mask] masks
// the answer on its way to the caller, and [Use.End] records how it ended. [HTTP] is the front end
// for HTTP; other protocols differ in their codec alone.
//
// The proxy fails closed. It refuses, and says why, when it can't record the use, when the stream
// of revocations is older than it may be, when a credential lacks the field that is to be injected,
// and when an answer can't be decoded and so can't be masked. There is no way through it that
// spends a credential without a durable record made first.
//
// # What of a running use
//
// A session ends at the earlier of its grant's and its credential's end, at once when the grant is
// revoked, and when the proxy stops; operations in flight are then cut. While the stream of
// revocations is stale no operation begins, but those that run go on until their session ends.
package proxy
