package collectortest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"
)

// Kind is a span's kind, as OTLP numbers them.
type Kind int

// The kinds of spans.
const (
	Internal Kind = iota + 1
	Server
	Client
	Producer
	Consumer
)

func (k Kind) String() string {
	if k < Internal || k > Consumer {
		return strconv.Itoa(int(k))
	}
	return [...]string{"INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"}[k-1]
}

// Attributes are by name. Values are string, bool, int64, float64 or []any of
// these.
type Attributes map[string]any

// Span is a span that the collector got.
type Span struct {
	Trace, ID  string // in hexadecimal
	Parent     string // empty for a root
	Name       string
	Kind       Kind
	Start, End time.Time
	Attributes Attributes
	Events     []string // their names
	Links      []Link
	Error      bool       // the status is one
	Scope      string     // name of what made it
	Resource   Attributes // of the process that made it
}

// Link is a span's link to another.
type Link struct {
	Trace, Span string
	Attributes  Attributes
}

// LinksTo reports whether the span has a link to another.
func (s Span) LinksTo(trace, span string) bool {
	for _, l := range s.Links {
		if l.Trace == trace && l.Span == span {
			return true
		}
	}
	return false
}

// String tells of a span in a line, for failures.
func (s Span) String() string {
	return fmt.Sprintf("%s %q %s/%s parent %q, %s, %v, links %v", s.Kind, s.Name, s.Trace, s.ID, s.Parent, s.End.Sub(s.Start), s.Attributes, s.Links)
}

// Metric is a metric that the collector got, once for each export.
type Metric struct {
	Name, Unit string
	Points     []Point
	Resource   Attributes
}

// Point is the value of a metric for one set of attributes.
type Point struct {
	Attributes Attributes
	Value      float64 // of a sum or gauge; a histogram's sum
	Count      int64   // of a histogram
}

// Spans returns the spans so far that come from a process whose resource has an
// attribute, in the order in which they were written.
func (c *Collector) Spans(t testing.TB, attribute, value string) []Span {
	t.Helper()
	if err := c.take(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var some []Span
	for _, s := range c.spans {
		if s.Resource[attribute] == value {
			some = append(some, s)
		}
	}
	return some
}

// Metrics returns the metrics so far, likewise.
func (c *Collector) Metrics(t testing.TB, attribute, value string) []Metric {
	t.Helper()
	if err := c.take(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var some []Metric
	for _, m := range c.metrics {
		if m.Resource[attribute] == value {
			some = append(some, m)
		}
	}
	return some
}

// Received returns all that was exported to the collector so far, as it has it.
func (c *Collector) Received(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(c.file())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// Trace returns the spans of a trace that were read so far.
func (c *Collector) Trace(id string) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var some []Span
	for _, s := range c.spans {
		if s.Trace == id {
			some = append(some, s)
		}
	}
	return some
}

// take reads what the file has got since.
func (c *Collector) take() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := os.Open(c.file())
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(c.read, io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last line may still be written
	c.read += int64(len(text))
	for line := range bytes.Lines(text) {
		var e export
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the collector's file: %w in %.200s", err, line)
		}
		e.each(func(s Span) { c.spans = append(c.spans, s) }, func(m Metric) { c.metrics = append(c.metrics, m) })
	}
	return nil
}

// export is a line of the file: OTLP in JSON, as far as tests read it.
type export struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes keyValues }
		ScopeSpans []struct {
			Scope struct{ Name string }
			Spans []struct {
				TraceID, SpanID, ParentSpanID, Name string
				Kind                                Kind
				StartTimeUnixNano, EndTimeUnixNano  nanos
				Attributes                          keyValues
				Events                              []struct{ Name string }
				Links                               []struct {
					TraceID, SpanID string
					Attributes      keyValues
				}
				Status struct{ Code int }
			}
		}
	}
	ResourceMetrics []struct {
		Resource     struct{ Attributes keyValues }
		ScopeMetrics []struct {
			Metrics []struct {
				Name, Unit            string
				Sum, Gauge, Histogram struct{ DataPoints []dataPoint }
			}
		}
	}
}

type dataPoint struct {
	Attributes keyValues
	AsDouble   float64
	AsInt      int64 `json:",string"`
	Sum        float64
	Count      int64 `json:",string"`
}

// each hands on everything in the line.
func (e *export) each(span func(Span), metric func(Metric)) {
	for _, r := range e.ResourceSpans {
		resource := r.Resource.Attributes.values()
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				one := Span{
					Trace: s.TraceID, ID: s.SpanID, Parent: s.ParentSpanID, Name: s.Name, Kind: s.Kind,
					Start: s.StartTimeUnixNano.time(), End: s.EndTimeUnixNano.time(), Attributes: s.Attributes.values(),
					Error: s.Status.Code == 2, Scope: scope.Scope.Name, Resource: resource,
				}
				for _, event := range s.Events {
					one.Events = append(one.Events, event.Name)
				}
				for _, l := range s.Links {
					one.Links = append(one.Links, Link{l.TraceID, l.SpanID, l.Attributes.values()})
				}
				span(one)
			}
		}
	}
	for _, r := range e.ResourceMetrics {
		resource := r.Resource.Attributes.values()
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				one := Metric{Name: m.Name, Unit: m.Unit, Resource: resource}
				for _, points := range [][]dataPoint{m.Sum.DataPoints, m.Gauge.DataPoints, m.Histogram.DataPoints} {
					for _, p := range points {
						one.Points = append(one.Points, Point{p.Attributes.values(), p.AsDouble + float64(p.AsInt) + p.Sum, p.Count})
					}
				}
				metric(one)
			}
		}
	}
}

type keyValues []struct {
	Key   string
	Value value
}

func (kv keyValues) values() Attributes {
	all := make(Attributes, len(kv))
	for _, a := range kv {
		all[a.Key] = a.Value.value()
	}
	return all
}

type value struct {
	StringValue *string
	BoolValue   *bool
	IntValue    *int64 `json:",string"`
	DoubleValue *float64
	ArrayValue  *struct{ Values []value }
}

func (v value) value() any {
	switch {
	case v.StringValue != nil:
		return *v.StringValue
	case v.BoolValue != nil:
		return *v.BoolValue
	case v.IntValue != nil:
		return *v.IntValue
	case v.DoubleValue != nil:
		return *v.DoubleValue
	case v.ArrayValue != nil:
		all := make([]any, len(v.ArrayValue.Values))
		for i, one := range v.ArrayValue.Values {
			all[i] = one.value()
		}
		return all
	default:
		return nil
	}
}

// nanos is an instant in nanoseconds, in a string.
type nanos string

func (n nanos) time() time.Time {
	i, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(0, i)
}
