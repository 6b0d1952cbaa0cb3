package aws

// STSURL is stsURL, for the tests.
var STSURL = stsURL
