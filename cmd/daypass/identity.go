package main

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func newWhoami(c *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Show who the broker takes you for",
		Args:  cli.Args(cobra.NoArgs),
		RunE: c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
			p, err := client.WhoAmI(cmd.Context())
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, p, func(w io.Writer) {
				cli.Row(w, "subject", p.GetSubject())
				cli.Row(w, "issuer", p.GetIssuer())
				cli.Row(w, "provider", p.GetProvider())
				cli.Row(w, "kind", p.GetKind())
				cli.Row(w, "name", p.GetName())
				cli.Row(w, "groups", strings.Join(p.GetGroups(), ", "))
			})
		}),
	}
	cli.AddOutput(cmd, &output)
	return cmd
}

func newTargets(c *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "List what you may ask for",
		Args:  cli.Args(cobra.NoArgs),
		RunE: c.with(func(cmd *cobra.Command, _ []string, client *sdk.Client) error {
			targets, err := client.Targets(cmd.Context())
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, &pb.ListTargetsResponse{Targets: targets}, func(w io.Writer) {
				cli.Row(w, "TARGET", "DELIVERY", "SCOPES", "AT MOST")
				for _, t := range targets {
					delivery := strings.ToLower(strings.TrimPrefix(t.GetDelivery().String(), "DELIVERY_"))
					cli.Row(w, t.GetName(), delivery, strings.Join(t.GetScopes(), " "), span(t.GetMaxTtl().AsDuration()))
				}
			})
		}),
	}
	cli.AddOutput(cmd, &output)
	return cmd
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

// show prints a message as JSON, or as the table that text writes.
func show(w io.Writer, output string, m proto.Message, text func(io.Writer)) error {
	if output == cli.JSON {
		b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			return err
		}
		return cli.WriteJSON(w, json.RawMessage(b)) // protojson's own spaces differ from build to build
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	text(table)
	return table.Flush()
}
