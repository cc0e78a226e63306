package bridge

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// Instruments makes the instruments of one part of the bridge and keeps the errors
// of all. It is used by one goroutine.
type Instruments struct {
	meter metric.Meter
	errs  []error
}

// NewInstruments returns a maker of a meter's instruments.
func NewInstruments(m metric.Meter) *Instruments { return &Instruments{meter: m} }

// Counter makes a counter that is added to.
func (in *Instruments) Counter(name, unit, about string) metric.Int64Counter {
	i, err := in.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
	in.errs = append(in.errs, err)
	return i
}

// Observed makes a counter that a callback reads.
func (in *Instruments) Observed(name, unit, about string) metric.Int64ObservableCounter {
	i, err := in.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
	in.errs = append(in.errs, err)
	return i
}

// Gauge makes a gauge that a callback reads.
func (in *Instruments) Gauge(name, unit, about string) metric.Int64ObservableGauge {
	i, err := in.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(about))
	in.errs = append(in.errs, err)
	return i
}

// Err joins err and those of all instruments; nil if there are none.
func (in *Instruments) Err(err error) error { return errors.Join(append(in.errs, err)...) }
