package sink_test

import (
	"fmt"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sink"
)

func ExampleEncoder_AppendEvent() {
	enc := sink.NewEncoder(sink.EncoderOptions{Names: true})
	block := enc.AppendEvent(nil, bridge.Event{
		Kind: bridge.RecordEvent, Stream: "orders", ID: "1~orders.k3x9z1.32b.x0m1",
		Record: &bridge.Record{Name: "created", Data: []byte("one line\nand another")},
	})
	fmt.Printf("%s", block)
	// Output:
	// event: created
	// data: one line
	// data: and another
	// id: 1~orders.k3x9z1.32b.x0m1
}

func ExampleParseOrigins() {
	origins, err := sink.ParseOrigins([]string{"https://app.example", "http://localhost:*"})
	fmt.Println(origins.Allows("http://localhost:5173"), origins.Allows("https://app.example.org"), err)

	_, err = sink.ParseOrigins([]string{"https://App.example"})
	fmt.Println(err)
	// Output:
	// true false <nil>
	// origin "https://App.example": browsers send https://app.example: write it so
}
