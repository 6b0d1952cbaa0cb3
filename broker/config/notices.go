package config

import (
	"maps"
	"slices"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Notices say who is told of requests, break-glass access and refused policies. docs/notices.md has
// examples.
type Notices struct {
	// Where notices go.
	Channels []NoticeChannel `yaml:"channels"`
	// Which channels hear of which groups. The default is that each hears of everything.
	Routes []NoticeRoute `yaml:"routes"`
	// The base URL of the console, which notices then link to.
	ConsoleURL string `yaml:"console_url"`
}

// NoticeChannel is one place where notices go: a name, and exactly one of `webhook`, `slack`, `teams`
// and `smtp`.
type NoticeChannel struct {
	// The name that routes and the audit log use.
	Name string `yaml:"name,required"`
	// JSON by HTTP, signed.
	Webhook *Webhook `yaml:"webhook"`
	// A Slack channel, by an app of yours.
	Slack *Slack `yaml:"slack"`
	// A workflow of Microsoft Teams.
	Teams *Teams `yaml:"teams"`
	// E-mail.
	SMTP *SMTP `yaml:"smtp"`

	section *strictyaml.Node
}

// NoticeRoute says which channels hear of which groups: of the requests that are put to them, and of
// the reviews that they owe.
type NoticeRoute struct {
	// Names of groups. `*` stands for all groups that no other route names, and for what is put to no
	// group.
	Groups []string `yaml:"groups,required"`
	// Names of channels.
	Channels []string `yaml:"channels,required"`
}

// Webhook is an address that notices are posted to as Standard Webhooks.
type Webhook struct {
	// The address; https.
	URL string `yaml:"url,required"`
	// What signs: the base64 of 24 to 64 random bytes, with or without `whsec_` before it.
	Secret cred.Secret `yaml:"secret,required"`
	// The secret before it. While it is set, both sign, so that a receiver can change over.
	PreviousSecret cred.Secret `yaml:"previous_secret"`
	// A PEM file with the CA of the receiver's certificate, relative to the folder of the configuration
	// file. The default is the system's CAs.
	CAFile string `yaml:"ca_file"`
	// Permit http on a loopback address, for development.
	AllowPlain bool `yaml:"allow_plain"`
}

// Slack is a channel that an app of yours posts to.
type Slack struct {
	// The app's bot token, with the scope `chat:write`.
	Token cred.Secret `yaml:"token,required"`
	// The channel's ID, such as `C0123456789`.
	Channel string `yaml:"channel,required"`
	// The app's signing secret. With it and `users`, requests have buttons to decide with; without,
	// they link alone.
	SigningSecret cred.Secret `yaml:"signing_secret"`
	// Whose clicks count, by Slack user ID.
	Users map[string]SlackUser `yaml:"users"`
	// The ID of the workspace that clicks must come from, such as `T0123456789`. The default is any in
	// which the app is.
	Team string `yaml:"team"`
	// The base of Slack's Web API. Another one is for GovSlack (`https://slack-gov.com/api`) and, with
	// http on a loopback address, for tests.
	APIURL string `yaml:"api_url" default:"https://slack.com/api"`
}

// SlackUser is the identity that a Slack user's click counts for.
type SlackUser struct {
	// The name of an identity provider of people.
	Provider string `yaml:"provider,required"`
	// The person's subject (`sub`) there.
	Subject string `yaml:"subject,required"`
	// The person's e-mail address, as verified there. It keeps people with two identities from deciding
	// about requests of their own.
	Email string `yaml:"email"`
	// The name to show to people.
	Name string `yaml:"name"`
}

// Teams is a workflow of Microsoft Teams that begins with "When a Teams webhook request is received".
type Teams struct {
	// The workflow's address. Who knows it can post, so it is a secret.
	URL cred.Secret `yaml:"url,required"`
	// Permit http on a loopback address, for tests.
	AllowPlain bool `yaml:"allow_plain"`
}

// SMTP is a mail server and whom it delivers to.
type SMTP struct {
	// Host and port of the server.
	Address string `yaml:"address,required"`
	// Whose mail it is, such as `Access <daypass@example.com>`.
	From string `yaml:"from,required"`
	// The recipients.
	To []string `yaml:"to,required"`
	// How the connection is protected: `starttls` (mostly port 587), `tls` (mostly port 465), or `none`
	// on a loopback address.
	TLS string `yaml:"tls" default:"starttls" enum:"starttls,tls,none"`
	// The user name, for servers that want one. Not with `tls: none`.
	Username string `yaml:"username"`
	// Its password.
	Password cred.Secret `yaml:"password"`
	// A PEM file with the CA of the server's certificate, relative to the folder of the configuration
	// file. The default is the system's CAs.
	CAFile string `yaml:"ca_file"`
}

// DecodeNode implements strictyaml.Decoder. A channel is read when the file is checked: its secrets
// are there only where the broker runs.
func (c *NoticeChannel) DecodeNode(n *strictyaml.Node) strictyaml.Problems {
	c.section = n
	return nil
}

// For returns the channels that are to hear of something that is put to groups, sorted: those of each
// group's routes, or where it has none, and where there is no group, those of the routes of `*`.
func (n Notices) For(groups []string) []string {
	found := map[string]bool{}
	hear := func(group string) (routed bool) {
		for _, r := range n.Routes {
			if slices.Contains(r.Groups, group) {
				routed = true
				for _, c := range r.Channels {
					found[c] = true
				}
			}
		}
		return routed
	}
	for _, g := range groups {
		if g == anyGroup || !hear(g) {
			hear(anyGroup)
		}
	}
	if len(groups) == 0 {
		hear(anyGroup)
	}
	return slices.Sorted(maps.Keys(found))
}

// anyGroup stands in a route for the groups that no route names.
const anyGroup = "*"

// SlackUsers returns whose clicks in a Slack channel count, by Slack user ID.
func (c *Config) SlackUsers(s Slack) map[string]cred.Principal {
	all := map[string]cred.Principal{}
	for id, u := range s.Users {
		for _, p := range c.Providers() {
			if p.Name != u.Provider {
				continue
			}
			who := cred.Principal{Provider: p.Name, Issuer: p.Issuer, Subject: u.Subject, Name: u.Name, Kind: cred.KindPerson}
			if u.Email != "" {
				who.Claims = map[string]any{"email": u.Email, "email_verified": true}
			}
			all[id] = who
		}
	}
	return all
}
