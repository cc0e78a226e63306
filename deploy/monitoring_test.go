package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"go.yaml.in/yaml/v4"
)

const (
	dashboardFile  = "grafana/dashboard.json"
	alertsFile     = "prometheus/alerts.yaml"
	alertsTestFile = "prometheus/alerts_test.yaml"
	prometheusFile = "prometheus/prometheus.yaml"
	podMonitorFile = "prometheus/podmonitor.yaml"
)

// rules is what a file of rules holds.
type rules struct {
	Groups []ruleGroup
}

type ruleGroup struct {
	Name  string
	Rules []rule
}

type rule struct {
	Record      string            `yaml:",omitempty"`
	Alert       string            `yaml:",omitempty"`
	Expr        string            `yaml:",omitempty"`
	For         string            `yaml:",omitempty"`
	Labels      map[string]string `yaml:",omitempty"`
	Annotations map[string]string `yaml:",omitempty"`
}

func readAlerts(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	if err := yaml.Unmarshal(text, &r); err != nil {
		t.Fatalf("%s: %v", alertsFile, err)
	}
	if len(r.Groups) != 1 || len(r.Groups[0].Rules) == 0 {
		t.Fatalf("%s has no alerts", alertsFile)
	}
	return r.Groups[0].Rules
}

// Whoever is woken by an alert wants to know what is wrong and what to do. That
// each fires when it should, and else does not, Prometheus itself tries.
func TestAlertsFireAndSayWhatToDo(t *testing.T) {
	for file, args := range map[string][]string{alertsFile: {"check", "rules"}, alertsTestFile: {"test", "rules"}, prometheusFile: {"check", "config"}} {
		if out, err := promtool(t, file, args...); err != nil {
			t.Errorf("promtool %s %s: %v\n%s", strings.Join(args, " "), file, err, out)
		}
	}
	tried, err := os.ReadFile(alertsTestFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readAlerts(t) {
		severity := r.Labels["severity"]
		if r.For == "" || severity != "critical" && severity != "warning" || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 100 {
			t.Errorf("%s: for %q, severity %q, summary %q, description %q: want each", r.Alert, r.For, severity, r.Annotations["summary"], r.Annotations["description"])
		}
		fires := fmt.Sprintf(`alertname="%s", alertstate="firing"`, r.Alert)
		if text := string(tried); !strings.Contains(text, fires) && !strings.Contains(text, "alertname: "+r.Alert) {
			t.Errorf("%s fires in no test of %s", r.Alert, alertsTestFile)
		}
	}

	// The judge is one that says no.
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("groups: [{name: x, rules: [{alert: X, expr: 'sum by (a (b)'}]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, wrong, "check", "rules"); err == nil {
		t.Errorf("a broken expression is valid:\n%s", out)
	}
}

// grafana is a dashboard. Its newer form is read by Grafana 12 and later only.
type grafana = dashboard.Dashboard //nolint:staticcheck // see above

// readDashboard returns the dashboard as Grafana's own types have it, which know
// no field that Grafana does not.
func readDashboard(t *testing.T) grafana {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	plugins.RegisterDefaultPlugins()
	if err := strictly(text); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	var d grafana
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	if err := d.Validate(); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return d
}

// strictly reports fields of a dashboard that Grafana does not know. Panels are
// read to the end for it and then dropped: UnmarshalJSONStrict of a panel returns
// an empty list of errors that is not nil.
func strictly(text []byte) error {
	var d grafana
	if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	return nil
}

// A field that Grafana does not know is left out silently, and two panels at one
// place hide each other.
func TestDashboardIsOneThatGrafanaReads(t *testing.T) {
	d := readDashboard(t)
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	// Whose data source is named in it is asked of whoever imports it.
	for _, m := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains([]string{"${datasource}", "-- Grafana --", "ssebridge"}, m[1]) {
			t.Errorf("the data source %q is one of somebody's own", m[1])
		}
	}
	ids := map[uint32]string{}
	taken := map[[2]uint32]string{}
	for _, p := range panels(d) {
		if p.Title == nil || *p.Title == "" || p.Id == nil || p.GridPos == nil {
			t.Errorf("panel %+v: want a title, an id and a place", p)
			continue
		}
		if other, there := ids[*p.Id]; there {
			t.Errorf("panels %q and %q have the id %d", other, *p.Title, *p.Id)
		}
		ids[*p.Id] = *p.Title
		if p.Type != "row" && (p.Description == nil || *p.Description == "") {
			t.Errorf("panel %q: want a description, which is what its i shows", *p.Title)
		}
		g := p.GridPos
		if g.X+g.W > 24 {
			t.Errorf("panel %q does not fit: %+v", *p.Title, *g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, there := taken[[2]uint32{x, y}]; there {
					t.Fatalf("panels %q and %q lie on each other", other, *p.Title)
				}
				taken[[2]uint32{x, y}] = *p.Title
			}
		}
	}

	// The judge is one that says no.
	for old, misspelt := range map[string]string{`"drawStyle"`: `"drawStile"`, `"reduceOptions"`: `"reducedOptions"`, `"legendFormat"`: `"legend"`, `"gridPos"`: `"grid"`} {
		if strictly([]byte(strings.Replace(string(text), old, misspelt, 1))) == nil {
			t.Errorf("%s is valid", misspelt)
		}
	}
}

// panels returns all panels, rows too.
func panels(d grafana) (all []dashboard.Panel) {
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			row := *p.RowPanel
			all = append(all, dashboard.Panel{Type: "row", Title: row.Title, Id: &row.Id, GridPos: row.GridPos})
			all = append(all, row.Panels...)
			continue
		}
		all = append(all, *p.Panel)
	}
	return all
}

// expression is a question to Prometheus, by the place where it stands.
type expression struct{ where, text string }

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
)

// dashboardExpressions returns what the dashboard asks Prometheus, with values
// for its variables, and the labels that legends show.
func dashboardExpressions(t *testing.T) (all []expression) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "ssebridge", "$instance", ".*", "$stream", ".*", "$__rate_interval", "5m", "$__range", "1h")
	var walk func(where string, node any)
	walk = func(where string, node any) {
		switch n := node.(type) {
		case []any:
			for i, child := range n {
				walk(fmt.Sprintf("%s[%d]", where, i), child)
			}
		case map[string]any:
			if title, ok := n["title"].(string); ok {
				where = fmt.Sprintf("panel %q", title)
			}
			if name, ok := n["name"].(string); ok {
				where = fmt.Sprintf("%q", name)
			}
			if expr, ok := n["expr"].(string); ok {
				all = append(all, expression{where, variables.Replace(expr)})
				for _, key := range []string{"legendFormat", "titleFormat"} {
					legend, _ := n[key].(string)
					for _, m := range legendLabel.FindAllStringSubmatch(legend, -1) {
						// A legend is as good as a grouping by its labels.
						all = append(all, expression{where + " " + key, "sum by (" + m[1] + ") (" + variables.Replace(expr) + ")"})
						if !strings.Contains(expr, "by (") {
							continue
						}
						if !regexp.MustCompile(`by \([^)]*\b` + m[1] + `\b`).MatchString(expr) {
							t.Errorf("%s: the legend shows %s, which %s does not leave", where, m[1], expr)
						}
					}
				}
			}
			if m := labelValues.FindStringSubmatch(fmt.Sprint(n["definition"])); m != nil {
				all = append(all, expression{where, "group by (" + m[2] + ") (" + variables.Replace(m[1]) + ")"})
			}
			for _, key := range slices.Sorted(maps.Keys(n)) {
				walk(where, n[key])
			}
		}
	}
	walk("dashboard", tree)
	if len(all) < 40 {
		t.Fatalf("%d expressions in %s, want more", len(all), dashboardFile)
	}
	return all
}

// An alert about a metric that nobody exports is silent for ever, and so is one
// that asks for a label that the metric does not have, or a word that a label is
// never. So is a panel.
func TestDashboardAndAlertsAskForWhatIsExported(t *testing.T) {
	there := exportedSeries(t)
	asked := dashboardExpressions(t)

	// Prometheus reads the dashboard's expressions too.
	judged := rules{Groups: []ruleGroup{{Name: "dashboard"}}}
	for i, e := range asked {
		judged.Groups[0].Rules = append(judged.Groups[0].Rules, rule{Record: fmt.Sprintf("panel:%d", i), Expr: e.text})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": judged.Groups[0].Rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, file, "check", "rules"); err != nil {
		t.Errorf("expressions of the dashboard: %v\n%s", err, out)
	}

	for _, r := range readAlerts(t) {
		asked = append(asked, expression{r.Alert, r.Expr})
	}
	used := map[string]bool{}
	for _, e := range asked {
		for _, wrong := range there.judge(e.text, used) {
			t.Errorf("%s: %s, in %s", e.where, wrong, e.text)
		}
	}
	for name := range there {
		if strings.HasPrefix(name, "ssebridge_") && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") && !used[name] &&
			name != "ssebridge_stream_reserved_names_total" {
			t.Errorf("%s is exported, and no panel or alert shows it", name)
		}
	}

	// The judge is one that says no.
	for _, wrong := range []string{
		"ssebridge_client", `ssebridge_clients{stream="s"}`, "sum by (stream) (ssebridge_clients)", `ssebridge_stream_state{state="red"}`,
		"ssebridge_clients / on (stream) ssebridge_feeds",
	} {
		if there.judge(wrong, used) == nil {
			t.Errorf("%s is fine", wrong)
		}
	}
}

// judge returns what an expression asks for that is not exported, and notes the
// metrics that it uses.
func (s series) judge(text string, used map[string]bool) (wrong []string) {
	tree, err := metricsql.Parse(text)
	if err != nil {
		return []string{err.Error()}
	}
	accuse := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	metricsql.VisitAll(tree, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.MetricExpr:
			for _, filters := range e.LabelFilterss {
				s.judgeMetric(filters, used, accuse)
			}
		case *metricsql.AggrFuncExpr:
			s.judgeLabels(e.Modifier.Args, accuse, e.Args...)
		case *metricsql.BinaryOpExpr:
			s.judgeLabels(e.GroupModifier.Args, accuse, e.Left)
			s.judgeLabels(e.GroupModifier.Args, accuse, e.Right)
		}
	})
	return wrong
}

// judgeMetric judges a metric with its labels.
func (s series) judgeMetric(filters []metricsql.LabelFilter, used map[string]bool, accuse func(string, ...any)) {
	if len(filters) == 0 {
		return
	}
	name := filters[0].Value
	used[name] = true
	one, there := s[name]
	if filters[0].Label != "__name__" || !there {
		accuse("%q is not exported", name)
		return
	}
	for _, f := range filters[1:] {
		if !one.names[f.Label] {
			accuse("%s has no label %s", name, f.Label)
		}
		if !f.IsRegexp && !slices.Contains(added, f.Label) && !slices.Contains(one.values[f.Label], f.Value) {
			accuse("%s of %s is never %q", f.Label, name, f.Value)
		}
	}
}

// judgeLabels judges labels that the metrics of some expressions are grouped by.
func (s series) judgeLabels(labels []string, accuse func(string, ...any), of ...metricsql.Expr) {
	for _, label := range labels {
		for _, e := range of {
			metricsql.VisitAll(e, func(e metricsql.Expr) {
				m, ok := e.(*metricsql.MetricExpr)
				if !ok || len(m.LabelFilterss) == 0 || len(m.LabelFilterss[0]) == 0 {
					return
				}
				if one, there := s[m.LabelFilterss[0][0].Value]; there && !one.names[label] {
					accuse("%s has no label %s", m.LabelFilterss[0][0].Value, label)
				}
			})
		}
	}
}
