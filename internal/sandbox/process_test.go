package sandbox

import (
	"testing"

	"github.com/containerd/containerd/api/runtime/task/v3"
)

// untouchable serves no task.
type untouchable struct{ task.TTRPCTaskService }

// TestDeleteWhileTheSandboxEnds asks the guest nothing: it is taking everything
// apart itself.
func TestDeleteWhileTheSandboxEnds(t *testing.T) {
	s := &Sandbox{life: lifecycle{what: "sandbox", state: Running}, stopping: true, containers: map[string]*Container{}}
	c := &Container{ID: "c1", sandbox: s, tasks: untouchable{}, execs: map[string]*Process{}}
	c.init = newProcess(c, "", false, Stdio{})
	c.init.life.to(Running)
	c.init.life.to(Stopped)
	s.containers[c.ID] = c
	if err := c.init.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if s.Containers() != 0 {
		t.Error("the container is there yet")
	}
}
