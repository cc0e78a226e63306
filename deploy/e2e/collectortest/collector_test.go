package collectortest

import (
	"os"
	"reflect"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	code := m.Run()
	StopShared()
	os.Exit(code)
}

// Building takes a minute or two the first time. A build server does it before
// everything else, by this test, so that no other has to wait for it.
func TestCollectorIsBuilt(t *testing.T) {
	path, err := program()
	require(t, err)
	if info, err := os.Stat(path); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%s: %v, %v, want a program", path, info, err)
	}
}

// What tests conclude from spans is worth as much as how they are read.
func TestWhatWasSentIsReadBack(t *testing.T) {
	c := Shared(t)
	for path, body := range map[string]string{
		"/v1/traces": `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":[{"scope":{"name":"x"},"spans":[
			{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","parentSpanId":"1112131415161718","name":"process s","kind":5,
			"startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"1700000001000000001","status":{"code":2},"events":[{"name":"e"}],
			"attributes":[{"key":"i","value":{"intValue":"7"}},{"key":"b","value":{"boolValue":true}},{"key":"d","value":{"doubleValue":1.5}},
				{"key":"l","value":{"arrayValue":{"values":[{"stringValue":"s"}]}}}],
			"links":[{"traceId":"2102030405060708090a0b0c0d0e0f10","spanId":"2102030405060708","attributes":[{"key":"k","value":{"stringValue":"v"}}]}]}]}]}]}`,
		"/v1/metrics": `{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeMetrics":[{"metrics":[
			{"name":"n","unit":"s","sum":{"dataPoints":[{"asInt":"3","attributes":[{"key":"k","value":{"stringValue":"v"}}]}]}},
			{"name":"h","histogram":{"dataPoints":[{"count":"2","sum":0.5}]}}]}]}]}`,
	} {
		if err := c.post(t.Context(), path, body); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(patience)
	for len(c.Spans(t, "service.name", "a")) == 0 || len(c.Metrics(t, "service.name", "a")) < 2 {
		if time.Now().After(deadline) {
			t.Fatal("what was sent does not come")
		}
		time.Sleep(10 * time.Millisecond)
	}
	resource := Attributes{"service.name": "a"}
	want := Span{
		Trace: "0102030405060708090a0b0c0d0e0f10", ID: "0102030405060708", Parent: "1112131415161718", Name: "process s", Kind: Consumer,
		Start: time.Unix(1700000000, 1), End: time.Unix(1700000001, 1), Events: []string{"e"}, Error: true, Scope: "x", Resource: resource,
		Attributes: Attributes{"i": int64(7), "b": true, "d": 1.5, "l": []any{"s"}},
		Links:      []Link{{"2102030405060708090a0b0c0d0e0f10", "2102030405060708", Attributes{"k": "v"}}},
	}
	if got := c.Spans(t, "service.name", "a"); !reflect.DeepEqual(got, []Span{want}) {
		t.Errorf("spans %+v, want %+v", got, want)
	}
	wantMetrics := []Metric{
		{Name: "n", Unit: "s", Points: []Point{{Attributes{"k": "v"}, 3, 0}}, Resource: resource},
		{Name: "h", Points: []Point{{Attributes{}, 0.5, 2}}, Resource: resource},
	}
	if got := c.Metrics(t, "service.name", "a"); !reflect.DeepEqual(got, wantMetrics) {
		t.Errorf("metrics %+v, want %+v", got, wantMetrics)
	}
	if got := c.Spans(t, "service.name", "b"); got != nil {
		t.Errorf("spans %v of a process that sent none", got)
	}
}
