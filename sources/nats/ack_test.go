package nats

import "testing"

// A record that is taken for a control message is lost, and the other way round
// a control message becomes a record nobody published.
func TestDeliveriesAreKnownByTheirReplySubject(t *testing.T) {
	want := delivery{offset: 17, consumerSeq: 9, nanos: 1700000000123456789, pending: 4}
	for _, reply := range []string{
		"$JS.ACK.ORDERS.ssebridge-0-a1.1.17.9.1700000000123456789.4",
		"$JS.ACK.hub.ACCHASH.ORDERS.ssebridge-0-a1.1.17.9.1700000000123456789.4",
		"$JS.ACK._.ACCHASH.ORDERS.ssebridge-0-a1.1.17.9.1700000000123456789.4.token",
	} {
		if got, ok := parseDelivery(reply); !ok || got != want {
			t.Errorf("%s is %+v, %v; want %+v", reply, got, ok, want)
		}
	}
	for _, reply := range []string{
		"", "_INBOX.x.1", "$JS.ACK.", "$JS.ACK.a.b", "$JS.FC.ORDERS.x.y", "$JS.ACK.S.c.1.x.9.17.4", "$JS.ACK.S.c.1.-1.9.17.4",
		"$JS.ACK.S.c.1.17.9.17", "$JS.ACK.d.S.c.1.17.9.17.4", "$JS.ACK.S.c.1.99999999999999999999.9.17.4",
	} {
		if got, ok := parseDelivery(reply); ok {
			t.Errorf("%q is taken for the delivery %+v", reply, got)
		}
	}
}

func FuzzParseDelivery(f *testing.F) {
	f.Add("$JS.ACK.ORDERS.ssebridge-0-a1.1.17.9.1700000000123456789.4")
	f.Add("$JS.ACK.hub.ACC.ORDERS.c.1.17.9.1700000000123456789.4.t.u.v")
	f.Add("$JS.ACK.......")
	f.Fuzz(func(t *testing.T, reply string) {
		if d, ok := parseDelivery(reply); ok && (d.offset < 0 || d.nanos < 0) {
			t.Errorf("%q gives %+v", reply, d)
		}
	})
}
