// Package failpoint marks the steps at which a test may stop a process. In a build without the tag
// "failpoints" Hit does nothing and compiles to nothing.
package failpoint
