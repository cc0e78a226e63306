package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ssebridge/ssebridge/cmd/ssebridge/secrettest"
)

const sidecarFile = "kubernetes/sidecar.yaml"

// object is what the tests read of a Kubernetes object.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string // of a ConfigMap
	Spec     struct {
		Template struct { // of a Deployment
			Metadata struct{ Labels, Annotations map[string]string }
			Spec     podSpec
		}
		Ports []struct { // of a Service
			Name       string
			TargetPort int `yaml:"targetPort"`
		}
	}
}

type podSpec struct {
	EnableServiceLinks            *bool `yaml:"enableServiceLinks"`
	TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	InitContainers []container `yaml:"initContainers"`
	Containers     []container
	Volumes        []struct {
		Name   string
		Secret *struct {
			SecretName string `yaml:"secretName"`
		}
	}
}

type container struct {
	Name          string
	RestartPolicy string `yaml:"restartPolicy"`
	Ports         []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	EnvFrom []struct {
		ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Env []struct {
		Name, Value string
		ValueFrom   struct {
			ResourceFieldRef struct {
				ContainerName string `yaml:"containerName"`
				Resource      string
			} `yaml:"resourceFieldRef"`
		} `yaml:"valueFrom"`
	}
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
	StartupProbe   probe `yaml:"startupProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	LivenessProbe  probe `yaml:"livenessProbe"`
	Lifecycle      struct {
		PreStop struct {
			Sleep struct{ Seconds int }
		} `yaml:"preStop"`
	}
	Resources struct {
		Requests, Limits map[string]string
	}
	SecurityContext struct {
		RunAsUser                int   `yaml:"runAsUser"`
		RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		Capabilities             struct{ Drop []string }
	} `yaml:"securityContext"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

// manifest is what the sidecar's file holds.
type manifest struct {
	configMaps  map[string]map[string]string
	services    []object
	labels      map[string]string // of each Pod
	annotations map[string]string
	pod         podSpec
	bridge      container
}

func readManifest(t *testing.T) manifest {
	t.Helper()
	text, err := os.ReadFile(sidecarFile)
	if err != nil {
		t.Fatal(err)
	}
	return parseManifest(t, text)
}

func parseManifest(t *testing.T, text []byte) manifest {
	t.Helper()
	m := manifest{configMaps: map[string]map[string]string{}}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", sidecarFile, err)
		}
		switch o.Kind {
		case "ConfigMap":
			m.configMaps[o.Metadata.Name] = o.Data
		case "Deployment":
			m.pod = o.Spec.Template.Spec
			m.labels, m.annotations = o.Spec.Template.Metadata.Labels, o.Spec.Template.Metadata.Annotations
		case "Service":
			m.services = append(m.services, o)
		}
	}
	i := slices.IndexFunc(m.pod.InitContainers, func(c container) bool { return c.Name == "ssebridge" })
	if i < 0 {
		t.Fatalf("%s has no bridge", sidecarFile)
	}
	m.bridge = m.pod.InitContainers[i]
	return m
}

// environment is what the kubelet would set for the bridge. Secrets are files of
// the test's own where the manifest mounts one.
func (m manifest) environment(t *testing.T) map[string]string {
	t.Helper()
	environment := map[string]string{}
	for _, from := range m.bridge.EnvFrom {
		data, ok := m.configMaps[from.ConfigMapRef.Name]
		if !ok {
			t.Errorf("no ConfigMap %q", from.ConfigMapRef.Name)
		}
		maps.Copy(environment, data)
	}
	for _, e := range m.bridge.Env {
		switch {
		case strings.HasSuffix(e.Name, "_FILE"):
			environment[e.Name] = m.secret(t, e.Value)
		case e.ValueFrom.ResourceFieldRef.Resource != "":
			environment[e.Name] = fmt.Sprint(m.resource(t, e.ValueFrom.ResourceFieldRef.Resource))
		default:
			environment[e.Name] = e.Value
		}
	}
	return environment
}

// secret returns a file that stands for one of a mounted Secret.
func (m manifest) secret(t *testing.T, path string) string {
	t.Helper()
	for _, mount := range m.bridge.VolumeMounts {
		if filepath.Dir(path) != mount.MountPath {
			continue
		}
		for _, v := range m.pod.Volumes {
			if v.Name == mount.Name && v.Secret != nil {
				file := filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(file, []byte(secrettest.New("mounted")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
		}
	}
	t.Fatalf("no Secret is mounted for %s", path)
	return ""
}

var mebibytes = regexp.MustCompile(`^([0-9]+)Mi$`)

// resource returns a quantity of the bridge's container as the downward API does,
// in bytes.
func (m manifest) resource(t *testing.T, name string) int64 {
	t.Helper()
	kind, what, _ := strings.Cut(name, ".")
	quantity := map[string]map[string]string{"requests": m.bridge.Resources.Requests, "limits": m.bridge.Resources.Limits}[kind][what]
	parts := mebibytes.FindStringSubmatch(quantity)
	if parts == nil {
		t.Fatalf("%s is %q, want a number of Mi", name, quantity)
	}
	n, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return n << 20
}

// A field that is misspelt is a field that is not there; the API server says so
// only to those who ask. The bundled schemas are those of the newest Kubernetes.
func TestManifestsAreValidKubernetes(t *testing.T) {
	validate := need(t, "kubernetes", "pip install kubernetes-validate==1.37.0", "kubernetes-validate")
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), validate, append([]string{"--strict"}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// The judge is one that says no.
	text, err := os.ReadFile(sidecarFile)
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, bytes.Replace(text, []byte("readOnlyRootFilesystem"), []byte("readonlyRootFilesystem"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), validate, "--strict", wrong).CombinedOutput(); err == nil {
		t.Errorf("a misspelt field is valid:\n%s", out)
	}
}

// A setting that the bridge does not know, or a value that it refuses, is a Pod
// in CrashLoopBackOff, and with a sidecar that is the app's Pod.
func TestManifestIsAcceptedByTheBinary(t *testing.T) {
	m := readManifest(t)
	settings := effective(t, m.environment(t))
	if got, want := settings["SSEBRIDGE_STREAMS"], "orders=nats:ORDERS"; got != want {
		t.Errorf("streams %q, want %q", got, want)
	}
	// The memory of the container is what its parts are cut from.
	if got, want := settings["SSEBRIDGE_MEMORY"], "96MiB"; got != want {
		t.Errorf("memory %q, want %q: half of GOMEMLIMIT", got, want)
	}
	_, port, _ := strings.Cut(settings["SSEBRIDGE_HTTP_LISTEN"], ":")
	if got := fmt.Sprint(m.bridge.Ports[0].ContainerPort); got != port {
		t.Errorf("the container's port is %s, and the bridge listens at %s", got, port)
	}
}

// What makes the sidecar one, and what keeps it small: each of these lines is
// easy to lose in an edit, and nothing fails until much later.
func TestManifestKeepsItsPromises(t *testing.T) {
	m := readManifest(t)
	b := m.bridge
	no := func(p *bool) bool { return p != nil && !*p }
	for promise, kept := range map[string]bool{
		"it is a native sidecar":                       b.RestartPolicy == "Always",
		"no variables of Services":                     no(m.pod.EnableServiceLinks),
		"user 65532":                                   b.SecurityContext.RunAsUser == 65532 && b.SecurityContext.RunAsNonRoot,
		"nothing can be written":                       b.SecurityContext.ReadOnlyRootFilesystem,
		"no more privileges":                           no(b.SecurityContext.AllowPrivilegeEscalation),
		"no capabilities":                              slices.Equal(b.SecurityContext.Capabilities.Drop, []string{"ALL"}),
		"seccomp":                                      m.pod.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"Go collects before the kernel kills":          m.resource(t, "requests.memory") < m.resource(t, "limits.memory"),
		"no limit of CPU, which would stop deliveries": b.Resources.Limits["cpu"] == "",
	} {
		if !kept {
			t.Errorf("not kept: %s", promise)
		}
	}
	for _, p := range []struct {
		name string
		got  probe
		want string
	}{{"startup", b.StartupProbe, "/startupz"}, {"readiness", b.ReadinessProbe, "/readyz"}, {"liveness", b.LivenessProbe, "/livez"}} {
		if p.got.HTTPGet.Path != p.want || p.got.HTTPGet.Port != b.Ports[0].Name {
			t.Errorf("%s probe asks %+v, want %s at %s", p.name, p.got.HTTPGet, p.want, b.Ports[0].Name)
		}
	}
	for _, e := range b.Env {
		if strings.Contains(e.Name, "PASSWORD") && !strings.HasSuffix(e.Name, "_FILE") {
			t.Errorf("%s is a variable, want a file: variables are shown by kubectl describe", e.Name)
		}
	}
	for _, s := range m.services {
		for _, p := range s.Spec.Ports {
			known := func(c container) bool { return c.Ports[0].ContainerPort == p.TargetPort }
			if !slices.ContainsFunc(append(m.pod.Containers, b), known) {
				t.Errorf("port %s of the Service goes to %d, where nobody listens", p.Name, p.TargetPort)
			}
		}
	}
}

// One grace period is shared: the containers end first, then the sidecar, which
// has to tell its clients one by one. What is left when it is over is killed.
func TestManifestLeavesTimeToDrain(t *testing.T) {
	m := readManifest(t)
	drain, err := time.ParseDuration(effective(t, m.environment(t))["SSEBRIDGE_DRAIN"])
	if err != nil {
		t.Fatal(err)
	}
	const app = 10 * time.Second // what the app may take to end
	needed := app + drain + endMargin
	for _, c := range append(m.pod.Containers, m.bridge) {
		if c.Lifecycle.PreStop.Sleep.Seconds == 0 {
			t.Errorf("container %s ends before the Service has forgotten the Pod", c.Name)
		}
		needed += time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	}
	if grace := time.Duration(m.pod.TerminationGracePeriodSeconds) * time.Second; grace < needed {
		t.Errorf("terminationGracePeriodSeconds is %s, want at least %s", grace, needed)
	}
}

// Metrics that nobody finds are none: the Pod says by annotations where they are,
// and the PodMonitor by the name of the port.
func TestManifestIsFoundByPrometheus(t *testing.T) {
	m := readManifest(t)
	_, port, _ := strings.Cut(effective(t, m.environment(t))["SSEBRIDGE_ADMIN_LISTEN"], ":")
	if m.annotations["prometheus.io/scrape"] != "true" || m.annotations["prometheus.io/port"] != port {
		t.Errorf("annotations %v, and the admin listener is at %s", m.annotations, port)
	}
	text, err := os.ReadFile(podMonitorFile)
	if err != nil {
		t.Fatal(err)
	}
	var monitor struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			PodMetricsEndpoints []struct{ Port, Path string } `yaml:"podMetricsEndpoints"`
		}
	}
	if err := yaml.Unmarshal(text, &monitor); err != nil {
		t.Fatalf("%s: %v", podMonitorFile, err)
	}
	if monitor.APIVersion != "monitoring.coreos.com/v1" || monitor.Kind != "PodMonitor" || !maps.Equal(monitor.Spec.Selector.MatchLabels, m.labels) {
		t.Errorf("%s is %+v, want the Pods with %v", podMonitorFile, monitor, m.labels)
	}
	for _, e := range monitor.Spec.PodMetricsEndpoints {
		found := false
		for _, p := range m.bridge.Ports {
			found = found || p.Name == e.Port && fmt.Sprint(p.ContainerPort) == port && e.Path == "/metrics"
		}
		if !found {
			t.Errorf("%s asks the port %s for %s, and the container has %+v", podMonitorFile, e.Port, e.Path, m.bridge.Ports)
		}
	}
}

// What is a comment in the manifest is meant to be made none.
func TestManifestWithTracesIsAcceptedByTheBinary(t *testing.T) {
	text, err := os.ReadFile(sidecarFile)
	if err != nil {
		t.Fatal(err)
	}
	environment := parseManifest(t, bytes.ReplaceAll(text, []byte("# OTEL_"), []byte("OTEL_"))).environment(t)
	effective(t, environment)
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_RESOURCE_ATTRIBUTES"} {
		if environment[name] == "" {
			t.Errorf("no example of %s in %s", name, sidecarFile)
		}
	}
}
