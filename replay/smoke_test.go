package replay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

type textEncoder struct{}

func (textEncoder) AppendEvent(dst []byte, e bridge.Event) []byte {
	switch e.Kind {
	case bridge.RecordEvent:
		dst = fmt.Appendf(dst, "data %s %d@%d %s", e.Stream, e.Record.Partition, e.Record.Offset, e.Record.Data)
	case bridge.LossEvent:
		dst = fmt.Appendf(dst, "%s %s %d %d-%d", e.Finding.Reason, e.Stream, e.Finding.Partition, e.Finding.From, e.Finding.To)
	case bridge.ConnectedEvent:
		dst = fmt.Appendf(dst, "connected %s %v", e.Connected.Resume, e.Connected.Streams)
	default:
		dst = fmt.Appendf(dst, "kind %d", e.Kind)
	}
	return textEncoder{}.AppendEnd(dst, e.ID)
}
func (textEncoder) AppendEnd(dst []byte, id string) []byte { return fmt.Appendf(dst, " [%s]", id) }

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sourcetest.NewBroker(sourcetest.BrokerOptions{Kind: sourcetest.KafkaLike, Partitions: 3})
		s := bridge.NewStream("k", b.Source(sourcetest.SourceOptions{}), bridge.StreamOptions{})
		hub := bridge.NewHub([]*bridge.Stream{s}, bridge.HubOptions{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = hub.Run(ctx) }()
		for i := range 10 {
			b.Append(sourcetest.Message{Partition: int32(i % 3), Subject: "a.b", Data: fmt.Appendf(nil, "m%d", i)})
		}
		synctest.Wait()
		r := New(hub, Options{})
		f := r.Open(bridge.Subscription{Form: bridge.Form{Encoder: textEncoder{}}, Control: true, Heartbeat: 15 * time.Second, Start: &bridge.Start{Kind: bridge.StartAll}})
		n := 0
		for range 20 {
			cx, cancel := context.WithTimeout(ctx, 20*time.Second)
			us, err := f.Next(cx)
			cancel()
			for _, u := range us {
				t.Log(strings.TrimSpace(string(u)))
			}
			if err != nil {
				t.Fatal(err)
			}
			if n++; n < 10 {
				b.Append(sourcetest.Message{Partition: int32(n % 3), Subject: "a.b", Data: fmt.Appendf(nil, "live%d", n)})
			}
			if n == 5 {
				b.Trim(0, 3)
				b.Rollback(1, 2)
			}
		}
		f.Close()
		r.Close()
		stop()
		<-done
	})
}
