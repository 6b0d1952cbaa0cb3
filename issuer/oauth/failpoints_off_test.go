//go:build !failpoints

package oauth_test

const failpoints = false
