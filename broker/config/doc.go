// Package config reads daypass.yaml, for the broker and for the command line's policy commands.
//
// Load reports everything that is wrong, each with its place, and gives a Config only where nothing
// is. The comments of Config and of what it holds are the file's reference: docs/configuration.md is
// made of them (go test ./broker/config -run Reference -update).
package config
