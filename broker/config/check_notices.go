package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"regexp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func (k *checker) notices() {
	names := map[string]bool{}
	var all []string
	for i := range k.Notices.Channels {
		c := &k.Notices.Channels[i]
		path := strictyaml.Index("notices.channels", i)
		k.problems = append(k.problems, c.read(k.o.WithoutFiles)...)
		if c.Name != "" {
			k.name(path+".name", c.Name, names)
		}
		all = append(all, c.Name)
		k.channel(path, c)
	}
	for i, r := range k.Notices.Routes {
		path := strictyaml.Index("notices.routes", i)
		for j, name := range r.Channels {
			if !names[name] {
				k.refuse(strictyaml.Index(path+".channels", j), fmt.Sprintf("there is no channel %q", name), hint(name, all))
			}
		}
	}
	if len(k.Notices.Routes) == 0 && len(all) > 0 {
		k.Notices.Routes = []NoticeRoute{{Groups: []string{anyGroup}, Channels: all}}
	}
	if u := k.Notices.ConsoleURL; u != "" {
		k.noticeURL("notices.console_url", u, true)
	}
}

// read reads a channel from its section. Away from the broker its name alone is read.
func (c *NoticeChannel) read(nameAlone bool) strictyaml.Problems {
	if nameAlone {
		return c.section.Get("name").Decode(&c.Name)
	}
	type fields NoticeChannel // without DecodeNode
	return c.section.Decode((*fields)(c))
}

// channel checks what was read of a channel.
func (k *checker) channel(path string, c *NoticeChannel) {
	kinds := 0
	for _, is := range []bool{c.Webhook != nil, c.Slack != nil, c.Teams != nil, c.SMTP != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 && !k.o.WithoutFiles {
		k.refuse(path, "must have exactly one of webhook, slack, teams and smtp", "")
	}
	if w := c.Webhook; w != nil {
		k.file(path+".webhook.ca_file", &w.CAFile)
		if w.URL != "" {
			k.noticeURL(path+".webhook.url", w.URL, w.AllowPlain)
		}
	}
	if c.Slack != nil {
		k.slack(path+".slack", c.Slack)
	}
	if t := c.Teams; t != nil && !t.URL.IsZero() {
		k.noticeURL(path+".teams.url", t.URL.RevealString(), t.AllowPlain)
	}
	if c.SMTP != nil {
		k.smtp(path+".smtp", c.SMTP)
	}
}

// noticeURL checks an address without repeating it: it may be a secret.
func (k *checker) noticeURL(path, text string, plain bool) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		k.refuse(path, "must be a URL with a host, and no user information or fragment", "")
	case u.Scheme != "https" && !(u.Scheme == "http" && plain && isLoopback(u.Hostname())):
		k.refuse(path, "must be https", "http is for a loopback address, with allow_plain where there is such a key")
	}
}

var (
	slackChannelID = regexp.MustCompile(`^(?:[CGD][A-Z0-9]{2,30})$`)
	slackUserID    = regexp.MustCompile(`^(?:[UW][A-Z0-9]{2,30})$`)
	slackTeamID    = regexp.MustCompile(`^(?:[TE][A-Z0-9]{2,30})$`)
)

func (k *checker) slack(path string, s *Slack) {
	if s.Channel != "" && !slackChannelID.MatchString(s.Channel) {
		k.refuse(path+".channel", "must be a channel's ID, such as C0123456789", "Slack shows it at the end of the channel's details")
	}
	if s.Team != "" && !slackTeamID.MatchString(s.Team) {
		k.refuse(path+".team", "must be a workspace's ID, such as T0123456789", "")
	}
	k.noticeURL(path+".api_url", s.APIURL, true)
	if len(s.Users) > 0 && s.SigningSecret.IsZero() {
		k.refuse(path+".users", "need signing_secret: without it nobody's click can be verified", "")
	}
	for id, u := range s.Users {
		at := strictyaml.Key(path+".users", id)
		if !slackUserID.MatchString(id) {
			k.refuse(at, "is not the ID of a Slack user, such as U0123456789", "Slack shows it in the person's profile, as member ID")
		}
		if u.Provider != "" {
			k.slackProvider(at+".provider", u.Provider)
		}
	}
}

// slackProvider checks that a click counts for a person: nobody else approves.
func (k *checker) slackProvider(path, name string) {
	var names []string
	for _, p := range k.Providers() {
		if p.Name != name {
			names = append(names, p.Name)
			continue
		}
		if p.Kind != "" && p.Kind != cred.KindPerson {
			k.refuse(path, fmt.Sprintf("identity provider %q is not one of people", name), "")
		}
		return
	}
	k.refuse(path, fmt.Sprintf("there is no identity provider %q", name), hint(name, names))
}

func (k *checker) smtp(path string, s *SMTP) {
	k.file(path+".ca_file", &s.CAFile)
	host, _, err := net.SplitHostPort(s.Address)
	if s.Address != "" && (err != nil || host == "") {
		k.refuse(path+".address", "must be a host and a port, such as mail.example.com:587", "")
	}
	if s.TLS == "none" && err == nil && !isLoopback(host) {
		k.refuse(path+".tls", "none is for a server on a loopback address", "")
	}
	if s.TLS == "none" && s.Username != "" {
		k.refuse(path+".username", "is never sent without TLS", "")
	}
	if s.Username != "" && s.Password.IsZero() {
		k.refuse(path+".password", "is missing: username needs it", "")
	}
	if s.Username == "" && !s.Password.IsZero() {
		k.refuse(path+".username", "is missing: password needs it", "")
	}
	if _, err := mail.ParseAddress(s.From); s.From != "" && err != nil {
		k.refuse(path+".from", "must be an e-mail address", "")
	}
	if s.To != nil && len(s.To) == 0 {
		k.refuse(path+".to", "must name somebody", "")
	}
	for i, to := range s.To {
		if _, err := mail.ParseAddress(to); err != nil {
			k.refuse(strictyaml.Index(path+".to", i), "must be an e-mail address", "")
		}
	}
}
