package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/helper"
	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/internal/cli"
)

func newLogout(c *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "Forget the sign-in, and end it at the identity provider",
		Long: `logout deletes the sign-in at this broker and the grants that helpers keep from it, and
has the identity provider revoke the refresh token, where it can. Grants live on at the
broker until their end: 'daypass grants revoke' ends one before.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.logout(cmd, output) },
	}
	cli.AddOutput(cmd, &output)
	return cmd
}

func (c *connection) logout(cmd *cobra.Command, output string) error {
	if err := c.needBroker(); err != nil {
		return err
	}
	k, err := c.keeper(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	out, err := k.SignOut(cmd.Context())
	if err := errors.Join(err, helper.Clear(k.State, k.Broker)); err != nil {
		return err
	}
	if output == cli.JSON {
		return cli.WriteJSON(cmd.OutOrStdout(), map[string]any{"was_signed_in": out.Was.Subject != "", "subject": out.Was.Subject, "revoked": out.Revoked})
	}
	fmt.Fprintln(cmd.OutOrStdout(), logoutText(out))
	return nil
}

func logoutText(out login.SignedOut) string {
	switch {
	case out.Was.Subject == "":
		return "you were not signed in"
	case out.Revoked:
		return "signed out, here and at " + out.Was.Method.Issuer
	}
	return "signed out here; " + out.Was.Method.Issuer + " has nothing of it to revoke, or no way to"
}
