package main

import (
	"encoding/json"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
)

// command makes a command that asks the broker for a message and prints it, as text or as JSON.
func command[M proto.Message](c *connection, use, short string, args cobra.PositionalArgs, ask func(*cobra.Command, []string, *sdk.Client) (M, error), text func(io.Writer, M)) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.Args(args),
		RunE: c.with(func(cmd *cobra.Command, args []string, client *sdk.Client) error {
			m, err := ask(cmd, args, client)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), output, m, func(w io.Writer) { text(w, m) })
		}),
	}
	cli.AddOutput(cmd, &output)
	return cmd
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
