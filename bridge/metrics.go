package bridge

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// streamStates are the words of [StreamStatus].State.
var streamStates = [...]string{"starting", "reading", "waiting", "idle"}

// Observe lets a meter read what the hub and its streams count, whenever it
// collects, until the registration is ended. Labels are names of streams,
// numbers of partitions and words of the bridge, never what clients say.
func (h *Hub) Observe(m metric.Meter) (metric.Registration, error) {
	in := NewInstruments(m)
	counter, gauge := in.Observed, in.Gauge
	lagSeconds, err := m.Float64ObservableGauge("ssebridge.stream.lag", metric.WithUnit("s"), metric.WithDescription(
		"How long this replica is behind the broker: 0 at the end of the log, else the age of the newest record read, at most the time since it was at the end; no less than the time for which the stream waits for its broker."))
	var (
		lagRecords  = gauge("ssebridge.stream.lag.records", "{record}", "Offsets up to the broker's end that have not been read yet: at most so many records.")
		state       = gauge("ssebridge.stream.state", "", "1 for the state that the stream is in: starting, reading, waiting or idle.")
		records     = counter("ssebridge.stream.records", "{record}", "Records read live.")
		bytes       = counter("ssebridge.stream.bytes", "By", "Bytes of keys and payloads read live.")
		generations = counter("ssebridge.stream.generations", "{generation}", "Doubts about the stream's history: reconnects, changes of leader, resets.")
		reserved    = counter("ssebridge.stream.reserved_names", "{record}", "Records whose event name is one of the bridge's own, and is delivered with x- before it.")
		feeds       = gauge("ssebridge.feeds", "{feed}", "Combinations of streams and formats that are kept.")
		filters     = gauge("ssebridge.filters", "{filter}", "Distinct filters that are kept.")
		evictions   = counter("ssebridge.ring.evictions", "{event}", "Events that left a ring because there was no room.")
	)
	if err := in.Err(err); err != nil {
		return nil, err
	}
	observe := func(_ context.Context, o metric.Observer) error {
		stats := h.Stats()
		o.ObserveInt64(feeds, int64(stats.Feeds))
		o.ObserveInt64(filters, int64(stats.Filters))
		o.ObserveInt64(evictions, int64(stats.Evictions))
		for _, s := range h.streams {
			name := attribute.String("stream", s.name)
			here := metric.WithAttributeSet(attribute.NewSet(name))
			st := s.Status()
			for _, word := range streamStates {
				is := int64(0)
				if st.State == word {
					is = 1
				}
				o.ObserveInt64(state, is, metric.WithAttributeSet(attribute.NewSet(name, attribute.String("state", word))))
			}
			o.ObserveInt64(records, int64(st.Records), here)
			o.ObserveInt64(bytes, int64(st.Bytes), here)
			o.ObserveInt64(generations, int64(st.Generation-st.Rests), here)
			if s.opt.Event != nil {
				o.ObserveInt64(reserved, int64(s.opt.Event.Renamed()), here)
			}
			for _, l := range s.Lags() {
				place := metric.WithAttributeSet(attribute.NewSet(name, attribute.String("partition", strconv.Itoa(int(l.Partition)))))
				o.ObserveFloat64(lagSeconds, l.Age.Seconds(), place)
				if l.Known {
					o.ObserveInt64(lagRecords, int64(l.Records), place)
				}
			}
		}
		return nil
	}
	return m.RegisterCallback(observe, lagSeconds, lagRecords, state, records, bytes, generations, reserved, feeds, filters, evictions)
}
