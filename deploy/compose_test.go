package deploy

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads a file as docker compose does: against the schema, every
// reference resolved, nothing unknown passed over.
func compose(t *testing.T, file string) *types.Project {
	t.Helper()
	dir, err := filepath.Abs("compose")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, file)}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.ResolvePaths = true })
	if err != nil {
		t.Fatalf("load %s: %v", file, err)
	}
	return project
}

// composeBridge returns the bridge's service and the settings that the bridge
// makes of its environment.
func composeBridge(t *testing.T, file string) (types.ServiceConfig, map[string]string) {
	t.Helper()
	service, err := compose(t, file).GetService("ssebridge")
	if err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{}
	for name, value := range service.Environment {
		if value == nil {
			t.Fatalf("%s takes %s from the environment of whoever starts it", file, name)
		}
		environment[name] = *value
	}
	return service, effective(t, environment)
}

// endMargin is what a bridge may take besides draining until it has ended.
const endMargin = 5 * time.Second

// The first thing that somebody tries is copied from here. It must start.
func TestNATSComposeIsAcceptedByTheBinary(t *testing.T) {
	_, settings := composeBridge(t, "nats.yaml")
	if got, want := settings["SSEBRIDGE_STREAMS"], "orders=nats:ORDERS"; got != want {
		t.Errorf("streams %q, want %q", got, want)
	}
}

// Docker kills what has not ended after its grace period. Clients that were not
// told to go by then are cut, all at once.
func TestComposeLeavesTimeToDrain(t *testing.T) {
	_, settings := composeBridge(t, "nats.yaml")
	drain, err := time.ParseDuration(settings["SSEBRIDGE_DRAIN"])
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"nats.yaml", "kafka.yaml"} {
		service, err := compose(t, file).GetService("ssebridge")
		if err != nil {
			t.Fatal(err)
		}
		if service.StopGracePeriod == nil || time.Duration(*service.StopGracePeriod) < drain+endMargin {
			t.Errorf("%s: stop_grace_period %v, want at least %s and %s more", file, service.StopGracePeriod, drain, endMargin)
		}
	}
}

// The image is made from this repository and has neither a shell nor a file that
// it would write to. Compose files are to be no laxer than it needs, and are not
// to publish a port without authorization to the network.
func TestComposeGivesTheBridgeNoMoreThanItNeeds(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"nats.yaml", "kafka.yaml"} {
		s, err := compose(t, file).GetService("ssebridge")
		if err != nil {
			t.Fatal(err)
		}
		if s.Build == nil || filepath.Clean(s.Build.Context) != root {
			t.Errorf("%s: built from %+v, want %s", file, s.Build, root)
		}
		if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" {
			t.Errorf("%s: read_only %t, cap_drop %v: want both", file, s.ReadOnly, s.CapDrop)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %d is published on %q, want this machine only", file, p.Target, p.HostIP)
			}
		}
	}
}
