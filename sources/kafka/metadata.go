package kafka

import "slices"

// metadata is an answer to Metadata (key 3), versions 8 to 12.
type metadata struct {
	clusterID  string
	controller int32
	brokers    []metadataBroker
	topics     []metadataTopic
}

type metadataBroker struct {
	id   int32
	host string
	port int32
}

type metadataTopic struct {
	err        code
	name       string
	id         [16]byte // zero before version 10
	partitions []metadataPartition
}

type metadataPartition struct {
	err          code
	index        int32
	leader       int32 // broker id; -1: none
	epoch        int32 // of the leader
	replicaCount int
}

// appendMetadata asks for topics by name. Topics that do not exist are never
// created by asking.
func appendMetadata(e *encoder, version int16, topics []string) {
	e.array(len(topics))
	for _, name := range topics {
		if version >= 10 {
			e.uuid([16]byte{})
		}
		e.string(name)
		e.tags()
	}
	e.bool(false) // allow_auto_topic_creation
	if version <= 10 {
		e.bool(false) // include_cluster_authorized_operations
	}
	e.bool(false) // include_topic_authorized_operations
	e.tags()
}

// decodeMetadata reads an answer. Partitions come in the order of their index:
// brokers promise no order.
func decodeMetadata(d *decoder, version int16) (m metadata, err error) {
	d.int32() // throttle_time_ms
	d.array(func() {
		m.brokers = append(m.brokers, metadataBroker{id: d.int32(), host: d.string(), port: d.int32()})
		d.string() // rack
		d.tags(nil)
	})
	m.clusterID = d.string()
	m.controller = d.int32()
	d.array(func() {
		t := metadataTopic{err: code(d.int16()), name: d.string()}
		if version >= 10 {
			t.id = d.uuid()
		}
		d.int8() // is_internal
		d.array(func() {
			p := metadataPartition{err: code(d.int16()), index: d.int32(), leader: d.int32(), epoch: d.int32()}
			d.array(func() { d.int32(); p.replicaCount++ }) // replica_nodes
			d.array(func() { d.int32() })                   // isr_nodes
			d.array(func() { d.int32() })                   // offline_replicas
			d.tags(nil)
			t.partitions = append(t.partitions, p)
		})
		d.int32() // topic_authorized_operations
		d.tags(nil)
		slices.SortFunc(t.partitions, func(a, b metadataPartition) int { return int(a.index) - int(b.index) })
		m.topics = append(m.topics, t)
	})
	if version <= 10 {
		d.int32() // cluster_authorized_operations
	}
	d.tags(nil)
	return m, d.err()
}
