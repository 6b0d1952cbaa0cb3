package peers

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel end the process when the test's own process dies, so that a test that
// is killed leaves nothing behind.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
