package aws

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

var regionName = regexp.MustCompile(`^[a-z]{2,4}(?:-[a-z]+){1,2}-\d{1,2}$`)

// partition is one of AWS' separate clouds.
type partition struct {
	region    string // how the names of its regions begin
	suffix    string // how the names of its hosts end
	iam       string // the host of IAM, which has one for the whole partition
	iamRegion string // what its requests are signed for
}

// partitions is from https://docs.aws.amazon.com/general/latest/gr/iam-service.html and sts.html. The
// first that fits a region counts; the last fits all.
var partitions = []partition{
	{"cn-", "amazonaws.com.cn", "iam.cn-north-1.amazonaws.com.cn", "cn-north-1"},
	{"us-gov-", "amazonaws.com", "iam.us-gov.amazonaws.com", "us-gov-west-1"},
	{"eusc-", "amazonaws.eu", "iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"},
	{"us-iso-", "c2s.ic.gov", "iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"},
	{"us-isob-", "sc2s.sgov.gov", "iam.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"},
	{"us-isof-", "csp.hci.ic.gov", "iam.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"},
	{"eu-isoe-", "cloud.adc-e.uk", "iam.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"},
	{"", "amazonaws.com", "iam.amazonaws.com", "us-east-1"},
}

func partitionOf(region string) partition {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.region) {
			return p
		}
	}
	return partition{}
}

// stsURL is the endpoint of a region: the global one is older, slower and knows less.
func stsURL(region string) string {
	return "https://sts." + region + "." + partitionOf(region).suffix + "/"
}

func (cfg *Config) setDefaults() {
	if cfg.Audience == "" {
		cfg.Audience = defaultAudience
	}
	if cfg.MaxDuration == 0 {
		cfg.MaxDuration = maxLife
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
}

func (cfg *Config) check() error {
	if err := checkPlace(cfg.Region, cfg.Endpoint, cfg.AllowPlain); err != nil {
		return err
	}
	switch {
	case cfg.Source == nil:
		return invalidConfig("the broker needs an ID token to show to AWS", "no Source")
	case cfg.RoleARN != "" && !isRole(cfg.RoleARN):
		return invalidConfig("role must be the ARN of a role, such as arn:aws:iam::123456789012:role/deploy", "bad role")
	case cfg.MaxDuration < minLife || cfg.MaxDuration > maxLife:
		return invalidConfig("max_duration must be between 15m and 12h: AWS makes no shorter and no longer sessions", "bad maximum")
	case cfg.Timeout < 0:
		return invalidConfig("the timeout can't be negative", "negative duration")
	}
	return nil
}

// checkPlace wants a region or an endpoint, which is of https or, where that is allowed, of http on
// loopback.
func checkPlace(region, endpoint string, allowPlain bool) error {
	if region == "" && endpoint == "" {
		return invalidConfig("AWS needs a region, such as eu-central-1", "no region and no endpoint")
	}
	if region != "" && !regionName.MatchString(region) {
		return invalidConfig("region must be the name of a region of AWS, such as eu-central-1", "bad region")
	}
	if endpoint == "" {
		return nil
	}
	if err := tokenapi.CheckURL("aws.config", "endpoint", endpoint, allowPlain); err != nil {
		return err
	}
	if u, err := url.Parse(endpoint); err != nil || u.RawQuery != "" || u.ForceQuery || strings.Trim(u.Path, "/") != "" {
		return invalidConfig("endpoint must be a URL such as https://sts.eu-central-1.amazonaws.com, without a path and a query", "bad URL")
	}
	return nil
}

func invalidConfig(public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "aws.config", Public: public, Err: errors.New("aws: " + private)}
}
