package main

import "strconv"

// metric is one reading of this machine: the last token of its subject, and
// named numbers in the order in which they are shown.
type metric struct {
	Name   string
	Scope  string // what was measured: machine, or process where only that can be read
	Fields []field
}

// field is one number of a metric. Its name says the unit and is a constant of
// this program, so that it needs no escaping.
type field struct {
	Name  string
	Value float64
}

// appendJSON appends the metric as an object that begins with its running
// number on its subject: {"n":7,"scope":"machine","busy_percent":3.5}.
func (m metric) appendJSON(dst []byte, n uint64) []byte {
	dst = append(dst, `{"n":`...)
	dst = strconv.AppendUint(dst, n, 10)
	dst = append(dst, `,"scope":"`...)
	dst = append(dst, m.Scope...)
	dst = append(dst, '"')
	for _, f := range m.Fields {
		dst = append(dst, ',', '"')
		dst = append(dst, f.Name...)
		dst = append(dst, '"', ':')
		dst = strconv.AppendFloat(dst, f.Value, 'f', -1, 64)
	}
	return append(dst, '}')
}
