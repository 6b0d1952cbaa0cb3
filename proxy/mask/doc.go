// Package mask takes secrets and personal data out of text while it streams through the proxy.
//
// Compile chooses detectors; Detectors.Masker adds the secrets that the proxy itself injected; a Masker
// makes a Stream for each body: Writer for any text, SSE for an event stream, or what ForContentType
// chooses. Each masked place becomes "[masked:NAME]", which can stand in a JSON string, a line of an
// event stream, a header or a URL. Describe lists the detectors.
//
// # What holds
//
//   - However a text is cut into Writes, the same bytes leave and the same Counts are told.
//   - No part of what is masked leaves, not even its first byte.
//   - What is decided leaves at once. What is held back is the longest end of the text that may still
//     become a find, at most 20 KiB (a JWT's header and a token of 4 KiB) or the longest known secret
//     with every character escaped. A token that is longer is masked from its 4096th byte on without
//     waiting for its end. From the line that begins a private key all is swallowed up to the line
//     that ends one, and where that never comes, to the end of the text.
//   - Finds that overlap are one masked place, named by the find that starts first; a known secret
//     comes before a detector, and detectors in the order of Names.
//   - Valid JSON stays valid: a find that begins inside a JSON escape takes all of the escape with it.
//   - Hostile text costs time in proportion to its length.
//
// # Known secrets
//
// A secret is found raw; in base64 at each of its three alignments, in the standard and the URL
// alphabet, padded or not, also where a longer text was encoded (Basic authorisation, a file), and
// also over line ends; in hex of either case. In each of these forms any character may be escaped:
// percent-encoded, also repeatedly, '+' for a blank, JSON escapes of any kind, also of a JSON text in a JSON
// string. At the edges of a base64 form the characters that hold the secret's bits beside others' go too.
// Of a secret of several lines, each line of 16 bytes or more counts as a secret too.
//
// A secret shorter than 6 bytes is masked raw and escaped only: its encodings are too likely by chance. A
// single byte is masked wherever it stands. Do not pass what is no secret, such as user names.
//
// # Detectors
//
// A detector names an anchor: up to four sets of bytes. A sieve finds all anchors in one pass without
// branches, and the detector's own code decides around the few places that pass. Detectors look for the
// shape of a token, not for its vendor's present length, so that longer tokens do not slip through.
//
// They read text as it is, with the escapes that concern them: '@' as %40, '/' as \/, line ends as
// \n. A token in base64 is found only where it is known.
//
// # Event streams
//
// Assistants stream an answer as events that each carry a few characters, so a secret is seldom inside
// one event. SSE reads every event; each string in its JSON that goes on in the next event (delta.content,
// delta.text, partial_json, thinking, a choice's text, and whatever is new in a delta) is one text with its
// successors at the same path, for the same type, item, block and choice. It is masked as that text. An
// event is held back until its part of the text is decided, and so are those behind it, since order
// matters; comments are not. A text ends with its choice's finish_reason, its block's stop, its item's
// done, the end of the answer, or the connection. Other strings, such as the full text that the Responses
// API repeats at the end, are masked on their own, and so is what stands around them. Data that is no
// JSON is a text too where the event has no name, else it is masked on its own. An event in which
// nothing is masked leaves as it came, byte for byte.
//
// Four choices are deliberate. Thinking text is masked although its signature_delta signs it: the API then
// refuses that block in the next turn, which is better than a secret in a log. Logprobs, which repeat
// the answer token by token and as numbers, become null. A number that must be masked becomes a
// string. Where more than 8 MiB of events would have to be held back, or more than 256 texts are
// open, the rest of these texts is masked as "undecided".
//
// A body in JSON that is no event stream is masked as plain text: ask the API for no logprobs there.
package mask
