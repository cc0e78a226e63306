package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ssebridge/ssebridge/sink/ssetest"
	"github.com/ssebridge/ssebridge/sources/kafka/kafkatest"
)

// exported are the bridge's metrics: dashboards and alerts are written against
// these names, so each is a promise. labels are separated by blanks.
var exported = map[string]struct {
	kind   dto.MetricType
	labels string
}{
	"ssebridge_clients":                     {dto.MetricType_GAUGE, ""},
	"ssebridge_catchup_clients":             {dto.MetricType_GAUGE, ""},
	"ssebridge_connections_opened_total":    {dto.MetricType_COUNTER, ""},
	"ssebridge_connections_closed_total":    {dto.MetricType_COUNTER, "reason"},
	"ssebridge_requests_refused_total":      {dto.MetricType_COUNTER, "code"},
	"ssebridge_resumes_total":               {dto.MetricType_COUNTER, "verdict"},
	"ssebridge_events_delivered_total":      {dto.MetricType_COUNTER, ""},
	"ssebridge_bytes_sent_total":            {dto.MetricType_COUNTER, ""},
	"ssebridge_gaps_total":                  {dto.MetricType_COUNTER, "reason stream"},
	"ssebridge_resets_total":                {dto.MetricType_COUNTER, "reason stream"},
	"ssebridge_write_duration_seconds":      {dto.MetricType_HISTOGRAM, ""},
	"ssebridge_delivery_delay_seconds":      {dto.MetricType_HISTOGRAM, ""},
	"ssebridge_stream_lag_seconds":          {dto.MetricType_GAUGE, "partition stream"},
	"ssebridge_stream_lag_records":          {dto.MetricType_GAUGE, "partition stream"},
	"ssebridge_stream_state":                {dto.MetricType_GAUGE, "state stream"},
	"ssebridge_stream_records_total":        {dto.MetricType_COUNTER, "stream"},
	"ssebridge_stream_bytes_total":          {dto.MetricType_COUNTER, "stream"},
	"ssebridge_stream_generations_total":    {dto.MetricType_COUNTER, "stream"},
	"ssebridge_stream_reserved_names_total": {dto.MetricType_COUNTER, "stream"},
	"ssebridge_replay_reads_total":          {dto.MetricType_COUNTER, "stream"},
	"ssebridge_replay_cache_hits_total":     {dto.MetricType_COUNTER, "stream"},
	"ssebridge_replay_shared_reads_total":   {dto.MetricType_COUNTER, "stream"},
	"ssebridge_replay_cache_bytes":          {dto.MetricType_GAUGE, ""},
	"ssebridge_replay_handovers_total":      {dto.MetricType_COUNTER, ""},
	"ssebridge_replay_falls_total":          {dto.MetricType_COUNTER, ""},
	"ssebridge_feeds":                       {dto.MetricType_GAUGE, ""},
	"ssebridge_filters":                     {dto.MetricType_GAUGE, ""},
	"ssebridge_ring_evictions_total":        {dto.MetricType_COUNTER, ""},
	"ssebridge_draining":                    {dto.MetricType_GAUGE, ""},
	"ssebridge_compressors":                 {dto.MetricType_GAUGE, ""},
	"ssebridge_compression_memory_bytes":    {dto.MetricType_GAUGE, ""},
	"ssebridge_build_info":                  {dto.MetricType_GAUGE, "go_version revision version"},
	"go_goroutines":                         {dto.MetricType_GAUGE, ""},
	"go_memstats_heap_inuse_bytes":          {dto.MetricType_GAUGE, ""},
	"process_cpu_seconds_total":             {dto.MetricType_COUNTER, ""},
	"process_resident_memory_bytes":         {dto.MetricType_GAUGE, ""},
	"process_open_fds":                      {dto.MetricType_GAUGE, ""},
	"process_max_fds":                       {dto.MetricType_GAUGE, ""},
	"process_start_time_seconds":            {dto.MetricType_GAUGE, ""},
}

// scrape is what a bridge exported at one moment.
type scrape struct {
	text     string
	families map[string]*dto.MetricFamily
}

// scrape reads a bridge's metrics as Prometheus does.
func (b *bridgeProcess) scrape() scrape {
	b.t.Helper()
	got, err := get(b.t.Context(), b.Admin+"/metrics", nil)
	if err != nil || got.status != http.StatusOK {
		b.t.Fatalf("metrics: %d, %v", got.status, err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(got.body))
	if err != nil {
		b.t.Fatalf("metrics: %v\n%s", err, got.body)
	}
	return scrape{got.body, families}
}

// value adds up the samples of a metric that have these labels, each as
// name=value; of a histogram it is how often something was observed.
func (s scrape) value(name string, labels ...string) (sum float64) {
	for _, m := range s.families[name].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
			continue
		}
		sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// labels returns the names of a sample's labels, sorted, in one text.
func labels(m *dto.Metric) string {
	var names []string
	for _, l := range m.GetLabel() {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// promtool returns the path of Prometheus' own judge of metrics and rules.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		missing(t, "promtool", "promtool is not installed; apt-get install prometheus")
	}
	return path
}

// clientText is in everything that clients say in the test below.
const clientText = "saidbyclient"

// Numbers that operators are woken by must be right: after a known life, each
// metric has the value that the life tells. No label ever holds what a client
// said, as each distinct value costs the metrics' store memory for good.
func TestMetricsTellWhatHappened(t *testing.T) {
	for _, system := range []string{"nats", "kafka"} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			judge := promtool(t)
			s := observe(t, system, "MAX_CLIENTS=2", "DRAIN=30s", "STREAM_S_EVENT={header.name}")
			for n := 1; n <= 5; n++ {
				s.produce(fmt.Sprint(n))
			}
			// Else they are live for a client that comes now.
			until(t, "the records to be read", func() bool { return s.b.scrape().value("ssebridge_stream_records_total") == 5 })
			ids := s.read("start=all", "", 5)
			s.read("", ids[2], 3) // exact
			s.remove(3)
			s.read("", ids[2], 2)     // a gap, of the third
			s.read("", clientText, 0) // a reset
			const before = 5 + 3 + 2
			live := []*reader{s.live(), s.live()}
			s.produce("6", header{"name", "caught-up"}) // a name of the bridge's own
			for _, r := range live {
				r.await("record 6", func(h history) bool { return len(h.only("x-caught-up")) == 1 })
			}
			s.b.refused(t)

			want := map[string]float64{
				"ssebridge_clients": 2, "ssebridge_catchup_clients": 0, "ssebridge_draining": 0,
				"ssebridge_compressors": 0, "ssebridge_compression_memory_bytes": 0,
				"ssebridge_events_delivered_total":                  before + 2,
				"ssebridge_connections_closed_total reason=client":  4,
				"ssebridge_connections_closed_total":                4,
				"ssebridge_resumes_total verdict=new":               3,
				"ssebridge_resumes_total verdict=exact":             1,
				"ssebridge_resumes_total verdict=gap":               1,
				"ssebridge_resumes_total verdict=reset":             1,
				"ssebridge_gaps_total":                              1,
				"ssebridge_gaps_total stream=s reason=retention":    1,
				"ssebridge_resets_total":                            1,
				"ssebridge_resets_total reason=unreadable-id":       1,
				"ssebridge_requests_refused_total":                  5,
				"ssebridge_requests_refused_total code=overload":    1,
				"ssebridge_requests_refused_total code=bad-subject": 1,
				"ssebridge_stream_records_total stream=s":           6,
				"ssebridge_stream_reserved_names_total stream=s":    1,
				"ssebridge_stream_state stream=s state=reading":     1,
				"ssebridge_stream_state":                            1,
				"ssebridge_stream_lag_records":                      0,
				"ssebridge_stream_lag_seconds":                      0,
				"ssebridge_delivery_delay_seconds":                  2,
				"ssebridge_feeds":                                   1,
				"ssebridge_build_info":                              1,
			}
			var got scrape
			wrong := func() (all []string) {
				got = s.b.scrape()
				for _, query := range slices.Sorted(maps.Keys(want)) {
					f := strings.Fields(query)
					if v := got.value(f[0], f[1:]...); v != want[query] {
						all = append(all, fmt.Sprintf("%s is %v, want %v", query, v, want[query]))
					}
				}
				if opened, closed := got.value("ssebridge_connections_opened_total"), got.value("ssebridge_connections_closed_total"); opened-closed != 2 {
					all = append(all, fmt.Sprintf("%v connections were opened and %v closed, and 2 are there", opened, closed))
				}
				return all
			}
			settle(t, wrong)
			for name, least := range map[string]float64{
				"ssebridge_bytes_sent_total": 1500, "ssebridge_write_duration_seconds": 8, "ssebridge_stream_bytes_total": 6,
				"ssebridge_replay_reads_total": 1, "ssebridge_replay_cache_bytes": 1, "ssebridge_replay_handovers_total": 2,
				"ssebridge_filters": 1, "process_cpu_seconds_total": 0.001, "process_resident_memory_bytes": 1 << 20, "go_goroutines": 2,
			} {
				if v := got.value(name); v < least {
					t.Errorf("%s is %v, want at least %v", name, v, least)
				}
			}
			checkExported(t, got)
			s.checkPartitions(got)
			cmd := exec.CommandContext(t.Context(), judge, "check", "metrics")
			cmd.Stdin = strings.NewReader(got.text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("promtool check metrics: %v\n%s", err, out)
			}

			// One client is told to go at once, the other after a half of the time.
			s.b.Terminate()
			settle(t, func() (all []string) {
				got = s.b.scrape()
				if got.value("ssebridge_draining") != 1 || got.value("ssebridge_connections_closed_total", "reason=drain") < 1 {
					all = append(all, "no client was drained")
				}
				return all
			})
			checkExported(t, got)
		})
	}
}

// settle asks until nothing is wrong, and fails the test when something stays so.
func settle(t *testing.T, wrong func() []string) {
	t.Helper()
	var last []string
	defer func() {
		for _, text := range last {
			t.Error(text)
		}
	}()
	until(t, "metrics to be right", func() bool { last = wrong(); return len(last) == 0 })
}

// read connects with an id, reads so many records and what comes until the
// client has caught up, and leaves. It returns the ids of the records, from 1 on.
func (s *observed) read(query, id string, records int) (ids []string) {
	s.t.Helper()
	c := &ssetest.Client{
		URL: s.b.events("subject=" + clientText + "&subject=s.%3E&" + query), LastID: id,
		Header: map[string]string{"User-Agent": clientText, "X-Forwarded-For": clientText},
	}
	ids = []string{""}
	err := c.Follow(s.t.Context(), reconnectPause, func(e ssetest.Event) bool {
		if e.Type == "message" {
			ids = append(ids, e.ID)
		}
		return e.Type != "caught-up"
	})
	if err != nil || len(ids) != records+1 {
		s.t.Fatalf("read %d records from %q, %v, want %d", len(ids)-1, id, err, records)
	}
	until(s.t, "the client to be gone", func() bool { return s.b.scrape().value("ssebridge_clients") == 0 })
	return ids
}

// refused sends what is refused: four requests with a status, and one client too
// many.
func (b *bridgeProcess) refused(t *testing.T) {
	t.Helper()
	for path, status := range map[string]int{
		"/events?subject=" + clientText + "..x": 400, "/events?" + clientText + "=1": 400, "/events/" + clientText: 404, "/events?lastEventId=" + clientText: 400,
	} {
		if got, err := get(t.Context(), b.URL+path, nil); err != nil || got.status != status {
			t.Errorf("%s: %d, %v, want %d", path, got.status, err, status)
		}
	}
	stream, err := (&ssetest.Client{URL: b.events("subject=" + clientText), Header: map[string]string{"Host": clientText}}).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if e, err := stream.Next(t.Context()); err != nil || e.Type != "closing" {
		t.Errorf("one client too many gets %v, %v, want closing", e, err)
	}
}

// remove removes the records up to the nth from the broker.
func (s *observed) remove(n int) {
	s.t.Helper()
	if s.system == "kafka" {
		kafkatest.Shared(s.t).Trim(s.t, s.origin, 0, int64(n))
		return
	}
	stream, err := s.js.Stream(s.t.Context(), s.origin)
	if err == nil {
		err = stream.Purge(s.t.Context(), jetstream.WithPurgeSequence(uint64(n)+1))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// checkPartitions checks that each partition has a lag.
func (s *observed) checkPartitions(got scrape) {
	s.t.Helper()
	want := map[string]int{"nats": 1, "kafka": 2}[s.system]
	for _, name := range []string{"ssebridge_stream_lag_records", "ssebridge_stream_lag_seconds"} {
		if n := len(got.families[name].GetMetric()); n != want {
			s.t.Errorf("%s has %d samples, want one for each of %d partitions", name, n, want)
		}
	}
}

// checkExported compares names, kinds and labels with those that are promised,
// and looks for what clients said.
func checkExported(t *testing.T, got scrape) {
	t.Helper()
	for name, want := range exported {
		f, there := got.families[name]
		if !there || f.GetType() != want.kind || f.GetHelp() == "" {
			t.Errorf("%s: there %v, kind %s, help %q, want kind %s and a help", name, there, f.GetType(), f.GetHelp(), want.kind)
		}
		for _, m := range f.GetMetric() {
			if names := labels(m); names != want.labels {
				t.Errorf("%s has labels %q, want %q", name, names, want.labels)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got.families)) {
		_, known := exported[name]
		if !known && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is exported, and nobody is told of it", name)
		}
	}
	if at := strings.Index(strings.ToLower(got.text), clientText); at >= 0 {
		t.Errorf("a client's text is in the metrics: …%s…", got.text[max(0, at-200):min(len(got.text), at+100)])
	}
}
