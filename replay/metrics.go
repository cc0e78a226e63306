package replay

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ssebridge/ssebridge/bridge"
)

// metrics counts what clients are told, and lets a meter read what the replay
// counts by itself.
type metrics struct {
	resumes, gaps, resets metric.Int64Counter
	verdicts              map[string]metric.MeasurementOption // of resumes; made once, as thousands may come at once
}

// newMetrics makes the instruments. Their names are valid, so a meter has no
// reason to refuse one; if it does, the instrument counts nothing.
func newMetrics(m metric.Meter, r *Replay) *metrics {
	in := bridge.NewInstruments(m)
	counter, observed, gauge := in.Counter, in.Observed, in.Gauge
	ms := &metrics{
		resumes: counter("ssebridge.resumes", "{connection}", "Connections by the worst verdict of their streams: new (came without an event id), exact, gap or reset."),
		gaps:    counter("ssebridge.gaps", "{event}", "Gaps that clients were told, by stream and reason."),
		resets:  counter("ssebridge.resets", "{event}", "Resets that clients were told, by stream and reason."),
	}
	var (
		catchUps  = gauge("ssebridge.catchup_clients", "{client}", "Clients that are given older records until they are level with their group.")
		reads     = observed("ssebridge.replay.reads", "{read}", "Chunks of older records read from the broker.")
		hits      = observed("ssebridge.replay.cache_hits", "{hit}", "Chunks that were found in the cache.")
		shared    = observed("ssebridge.replay.shared_reads", "{read}", "Times a client waited for a read that another had begun.")
		bytes     = gauge("ssebridge.replay.cache_bytes", "By", "Bytes of the chunks in the cache.")
		handOvers = observed("ssebridge.replay.handovers", "{client}", "Times a client came to share its group's bytes.")
		falls     = observed("ssebridge.replay.falls", "{client}", "Times what such a client needed next had left the ring.")
	)
	// From the first moment on, so that the first gap is an increase.
	ms.verdicts = map[string]metric.MeasurementOption{}
	for _, verdict := range []string{"new", "exact", "gap", "reset"} {
		ms.verdicts[verdict] = metric.WithAttributeSet(attribute.NewSet(attribute.String("verdict", verdict)))
		ms.resumed(verdict, 0)
	}
	for _, s := range r.hub.Streams() {
		for _, reason := range bridge.Reasons() {
			ms.told(s.Name(), reason, 0)
		}
	}
	_, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := r.Stats()
		o.ObserveInt64(catchUps, r.catchUps.Load())
		o.ObserveInt64(bytes, stats.Bytes)
		o.ObserveInt64(handOvers, int64(stats.HandOvers))
		o.ObserveInt64(falls, int64(stats.Falls))
		for _, s := range r.hub.Streams() {
			here := metric.WithAttributeSet(attribute.NewSet(attribute.String("stream", s.Name())))
			stats := r.cache.streamStats(s)
			o.ObserveInt64(reads, int64(stats.Reads), here)
			o.ObserveInt64(hits, int64(stats.Hits), here)
			o.ObserveInt64(shared, int64(stats.Shared), here)
		}
		return nil
	}, catchUps, reads, hits, shared, bytes, handOvers, falls)
	if err := in.Err(err); err != nil {
		r.log.Error("some metrics are missing", "error", err)
	}
	return ms
}

// resumed counts connections by their verdict.
func (ms *metrics) resumed(verdict string, n int64) {
	ms.resumes.Add(context.Background(), n, ms.verdicts[verdict])
}

// told counts gaps or resets that clients are told.
func (ms *metrics) told(stream string, reason bridge.Reason, n int64) {
	counter := ms.gaps
	if reason.Reset() {
		counter = ms.resets
	}
	counter.Add(context.Background(), n, metric.WithAttributeSet(attribute.NewSet(
		attribute.String("stream", stream), attribute.String("reason", string(reason)))))
}
