package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/store"
)

// channels are the places where notices go, by name.
type channels struct {
	senders map[string]notice.Sender
	slack   map[string]*notice.Slack // of senders, those whose buttons count
}

func openChannels(c *config.Config) (channels, error) {
	out := channels{senders: map[string]notice.Sender{}, slack: map[string]*notice.Slack{}}
	for _, ch := range c.Notices.Channels {
		sender, err := out.open(c, ch)
		if err != nil {
			return channels{}, fmt.Errorf("channel %q: %s", ch.Name, cred.PublicText(err))
		}
		if sender != nil {
			out.senders[ch.Name] = sender
		}
	}
	return out, nil
}

// open makes a channel; nil for one that the configuration does not say enough of.
func (s channels) open(c *config.Config, ch config.NoticeChannel) (notice.Sender, error) {
	console := c.Notices.ConsoleURL
	switch {
	case ch.Webhook != nil:
		w := ch.Webhook
		return notice.NewWebhook(notice.WebhookOptions{
			URL: w.URL, Secret: w.Secret, Previous: w.PreviousSecret, CAFile: w.CAFile, AllowPlain: w.AllowPlain, Console: console,
		})
	case ch.Slack != nil:
		sl := ch.Slack
		sender, err := notice.NewSlack(notice.SlackOptions{
			Token: sl.Token, Channel: sl.Channel, SigningSecret: sl.SigningSecret, Users: c.SlackUsers(*sl),
			Team: sl.Team, API: sl.APIURL, Console: console,
		})
		if err == nil && !sl.SigningSecret.IsZero() && len(sl.Users) > 0 {
			s.slack[ch.Name] = sender
		}
		return sender, err
	case ch.Teams != nil:
		return notice.NewTeams(notice.TeamsOptions{URL: ch.Teams.URL, AllowPlain: ch.Teams.AllowPlain, Console: console})
	case ch.SMTP != nil:
		m := ch.SMTP
		return notice.NewSMTP(notice.SMTPOptions{
			Address: m.Address, Security: notice.SMTPSecurity(m.TLS), From: m.From, To: m.To,
			Username: m.Username, Password: m.Password, CAFile: m.CAFile, Console: console,
		})
	}
	return nil, nil // what is wrong with it has been told
}

// notifier queues notices for the channels that are to hear of them; nil where there is none.
func notifier(c *config.Config, s channels) func(store.Tx, notice.Notice) error {
	if len(s.senders) == 0 {
		return nil
	}
	return func(tx store.Tx, n notice.Notice) error {
		return notice.Enqueue(tx, c.Notices.For(n.Groups), n)
	}
}

// clicks are the handlers of buttons, by the path where Slack is told to call.
func (s channels) clicks(b *broker.Broker, log *slog.Logger) map[string]http.Handler {
	out := map[string]http.Handler{}
	for name, sender := range s.slack {
		out["/notices/slack/"+name] = sender.Clicks(reviewBy(b), log)
	}
	return out
}

// reviewBy takes a click as a verdict. When the person last signed in is not known, so a click does
// not count where a fresh sign-in is asked for.
func reviewBy(b *broker.Broker) notice.Review {
	return func(ctx context.Context, who cred.Principal, id cred.GrantID, digest string, v cred.Verdict) error {
		var d cred.Digest
		if err := d.UnmarshalText([]byte(digest)); err != nil {
			return err
		}
		_, err := b.Review(ctx, broker.Caller{Principal: who}, id, d, v)
		return err
	}
}
