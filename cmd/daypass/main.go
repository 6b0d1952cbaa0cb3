// Command daypass is what people, CI jobs and auditors call: it asks the broker for credentials, and
// reads and verifies what was granted.
package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/internal/cli"
)

func main() { os.Exit(run(byName(os.Args[0], os.Args[1:]), os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Execute(newRoot(), args, stdin, stdout, stderr)
}

func newRoot() *cobra.Command {
	var c connection
	root := &cobra.Command{
		Use:   "daypass",
		Short: "Credentials for a day, not for ever",
		Long: `daypass asks a broker for credentials that are scoped and expire.

Who you are is told by an OIDC ID token: from --id-token-file, from the variable
DAYPASS_ID_TOKEN, in a GitHub Actions job with 'permissions: id-token: write' from the
job itself, or else from your sign-in, see 'daypass login'.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 denied, 4 waiting for approval.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.NoCommand,
	}
	c.addFlags(root)
	root.AddCommand(
		newLogin(&c), newLogout(&c), newHelper(&c),
		newExchange(&c), newProof(), newWhoami(&c), newTargets(&c), newGrants(&c), newLeases(&c),
		newRequests(&c), newStanding(&c), newRotate(&c), newRotations(&c), newLock(&c), newUnlock(&c), newLocks(&c), newAudit(&c), newPolicy(&c))
	return root
}
