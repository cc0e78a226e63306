package replay

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
)

// blockEncoder is an encoder that costs next to nothing.
type blockEncoder struct{}

func (blockEncoder) AppendEvent(dst []byte, e bridge.Event) []byte {
	if e.Record != nil {
		dst = append(append(dst, "data: "...), e.Record.Data...)
		dst = append(dst, '\n')
	}
	return blockEncoder{}.AppendEnd(dst, e.ID)
}

func (blockEncoder) AppendEnd(dst []byte, id string) []byte {
	return append(append(append(dst, "id: "...), id...), "\n\n"...)
}

// BenchmarkReconnect is what a client costs that comes back 100 records behind, but
// for the broker and the network.
func BenchmarkReconnect(b *testing.B) {
	const behind = 100
	f := &fountain{
		sizes: func(bridge.Offset) int { return 200 }, pushes: make(chan int), pushed: make(chan struct{}),
		ready: make(chan struct{}), end: 20000,
	}
	hub := bridge.NewHub([]*bridge.Stream{bridge.NewStream("s", f, bridge.StreamOptions{})}, bridge.HubOptions{})
	r := New(hub, Options{})
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = hub.Run(ctx)
	}()
	<-f.ready
	sub := bridge.Subscription{
		Form: bridge.Form{Encoder: blockEncoder{}}, Control: true, Heartbeat: time.Minute,
		From: bridge.ID{{Stream: "s", Position: f.position(f.at() - behind)}},
	}
	b.ReportAllocs()
	for b.Loop() {
		c := r.Open(ctx, &sub)
		records := 0
		for c.Group() == nil {
			batch, err := c.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			records += batch.Records
			if n := len(batch.Units); n > 0 && !bytes.HasSuffix(batch.Units[n-1], []byte("\n\n")) {
				b.Fatalf("a unit ends with %q", batch.Units[n-1])
			}
		}
		if records != behind {
			b.Fatalf("%d records, want %d", records, behind)
		}
		c.Close()
	}
	r.Close()
	stop()
	<-ended
}
