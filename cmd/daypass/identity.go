package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newWhoami(c *connection) *cobra.Command {
	return command(c, "whoami", "Show who the broker takes you for", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.Principal, error) {
			return client.WhoAmI(cmd.Context())
		},
		func(w io.Writer, p *pb.Principal) {
			cli.Row(w, "subject", p.GetSubject())
			cli.Row(w, "issuer", p.GetIssuer())
			cli.Row(w, "provider", p.GetProvider())
			cli.Row(w, "kind", p.GetKind())
			cli.Row(w, "name", p.GetName())
			cli.Row(w, "groups", strings.Join(p.GetGroups(), ", "))
		})
}

func newTargets(c *connection) *cobra.Command {
	return command(c, "targets", "List what you may ask for", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, client *sdk.Client) (*pb.ListTargetsResponse, error) {
			targets, err := client.Targets(cmd.Context())
			return &pb.ListTargetsResponse{Targets: targets}, err
		},
		func(w io.Writer, r *pb.ListTargetsResponse) {
			cli.Row(w, "TARGET", "DELIVERY", "SCOPES", "AT MOST")
			for _, t := range r.GetTargets() {
				delivery := strings.ToLower(strings.TrimPrefix(t.GetDelivery().String(), "DELIVERY_"))
				cli.Row(w, t.GetName(), delivery, strings.Join(t.GetScopes(), " "), span(t.GetMaxTtl().AsDuration()))
			}
		})
}

// span writes a duration without the zeros at its end: 8h, not 8h0m0s.
func span(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}
