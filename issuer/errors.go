package issuer

import "errors"

// ErrNotIssued says, wrapped in an error of Issue, that nothing was made although the source could
// not be reached: the request never left.
var ErrNotIssued = errors.New("the request never reached the source")
