package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// openPrices starts a broker over dir with the stream of prices.
func openPrices(t *testing.T, dir string) (*natsBroker, jetstream.Stream) {
	t.Helper()
	b, err := startNATS(dir, "127.0.0.1:0", discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	stream, err := b.Stream(t.Context(), "prices")
	if err != nil {
		t.Fatal(err)
	}
	return b, stream
}

// numbersIn returns, by subject, the running numbers of all records, in order.
func numbersIn(t *testing.T, stream jetstream.Stream) map[string][]uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string][]uint64{}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var q quote
		if err := json.Unmarshal(msg.Data, &q); err != nil {
			t.Fatal(err)
		}
		numbers[msg.Subject] = append(numbers[msg.Subject], q.Number)
	}
	return numbers
}

// The page counts lost and doubled records by these numbers: a hole of the
// publisher's own making would accuse the bridge. They go on over a restart.
func TestNumbersHaveNoHoleOverRestarts(t *testing.T) {
	dir := t.TempDir()
	published := 0
	for run := range 2 {
		b, stream := openPrices(t, dir)
		truth := newTruth()
		s := newSeries("prices", natsStream{b, "prices"}, truth, discard())
		m := newMarket(rand.New(rand.NewPCG(1, 2)))
		for _, symbol := range m.Symbols() {
			if _, err := s.Open(t.Context(), priceSubject(symbol)); err != nil {
				t.Fatal(err)
			}
		}
		for range 12 + run {
			q := m.Next()
			s.Publish(t.Context(), priceSubject(q.Symbol), func(number uint64) []byte {
				q.Number = number
				return q.encode()
			})
			published++
		}
		found := 0
		for subject, numbers := range numbersIn(t, stream) {
			if got, want := *truth.now.Streams["prices"].Subjects[subject], (extent{1, uint64(len(numbers))}); got != want {
				t.Errorf("run %d: the truth states %+v of %s, want %+v", run, got, subject, want)
			}
			for i, n := range numbers {
				if n != uint64(i+1) {
					t.Errorf("run %d: %s has the numbers %v, want 1, 2, 3 and so on", run, subject, numbers)
					break
				}
			}
			found += len(numbers)
		}
		if found != published {
			t.Errorf("run %d: %d records stored, %d published", run, found, published)
		}
		b.Close()
	}
}

// When the confirmation of a stored record is lost, the publisher offers the
// same number again; the stream must not get it twice. When the record was not
// stored, its number must not be skipped.
func TestANumberIsStoredOnce(t *testing.T) {
	b, stream := openPrices(t, t.TempDir())
	s := newSeries("prices", natsStream{b, "prices"}, newTruth(), discard())
	encode := func(number uint64) []byte { return quote{Number: number}.encode() }

	lost, cancel := context.WithCancel(t.Context())
	cancel()
	s.Publish(lost, "prices.A", encode) // fails
	s.Publish(t.Context(), "prices.A", encode)
	s.last["prices.A"]-- // as if its confirmation had not come
	s.Publish(t.Context(), "prices.A", encode)
	s.Publish(t.Context(), "prices.A", encode)

	got := numbersIn(t, stream)["prices.A"]
	if len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("stored numbers %v, want 1 and 2", got)
	}
}

// A stream that is made again is empty, and its numbers go on: neither is one
// left out, which would look like a loss, nor does one come again.
func TestNumbersGoOnInAStreamThatIsMadeAgain(t *testing.T) {
	b, stream := openPrices(t, t.TempDir())
	truth := newTruth()
	s := newSeries("prices", natsStream{b, "prices"}, truth, discard())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- publishPrices(ctx, s, newMarket(rand.New(rand.NewPCG(5, 6)))) }()
	life := func() (uint64, uint64) { // of ACME, whose turn is the first
		a := truthOf(t, truth).Streams["prices"]
		if a == nil || a.Subjects["prices.ACME"] == nil {
			return 0, 0
		}
		e := a.Subjects["prices.ACME"]
		return e.First, e.Last
	}
	until(t, "a record", func() bool { _, last := life(); return last > 0 })
	for range 3 {
		if err := s.Recreate(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "a record of the new life", func() bool { first, last := life(); return last >= first })
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := truthOf(t, truth).Streams["prices"].Life; got != 4 {
		t.Errorf("life %d, want 4", got)
	}
	numbers := numbersIn(t, stream)
	for subject, e := range truthOf(t, truth).Streams["prices"].Subjects {
		var want []uint64
		for n := e.First; n <= e.Last; n++ {
			want = append(want, n)
		}
		if !slices.Equal(numbers[subject], want) {
			t.Errorf("%s holds %v, want %v", subject, numbers[subject], want)
		}
	}
	if first, _ := life(); first < 2 {
		t.Errorf("the life of ACME begins at %d, want that the numbers go on", first)
	}
}

// While it is not known whether a record is stored, its number will be used
// again: in the next life it would be a double of the publisher's own.
func TestNoStreamIsMadeAgainOverAnUnconfirmedRecord(t *testing.T) {
	b, _ := openPrices(t, t.TempDir())
	s := newSeries("prices", natsStream{b, "prices"}, newTruth(), discard())
	encode := func(number uint64) []byte { return quote{Number: number}.encode() }
	lost, cancel := context.WithCancel(t.Context())
	cancel()
	s.Publish(lost, "prices.A", encode)
	if err := s.recreate(t.Context()); !errors.Is(err, errUnconfirmed) {
		t.Errorf("recreate after a record without confirmation: %v, want %v", err, errUnconfirmed)
	}
	s.Publish(t.Context(), "prices.A", encode)
	if err := s.recreate(t.Context()); err != nil {
		t.Errorf("recreate after a confirmed record: %v", err)
	}
}

// failing is a history whose broker does what it is told, and whose answers get
// lost.
type failing struct {
	history
	deleted, made []error // of the calls to come, instead of the answers
}

func (f *failing) Delete(ctx context.Context) error {
	return answer(&f.deleted, f.history.Delete(ctx))
}

func (f *failing) Make(ctx context.Context) error { return answer(&f.made, f.history.Make(ctx)) }

// answer takes the next error, or what was answered if there is none.
func answer(errs *[]error, err error) error {
	if len(*errs) > 0 {
		err, *errs = (*errs)[0], (*errs)[1:]
	}
	return err
}

// A busy machine may take too long to make a stream again. The button works when
// it is pressed again, and until then the publisher helps itself; no number is
// left out or stored twice.
func TestAStreamThatIsHalfMadeAgainIsMade(t *testing.T) {
	late := errors.New("too late")
	encode := func(number uint64) []byte { return quote{Number: number}.encode() }
	for name, f := range map[string]failing{
		"delete": {deleted: []error{late, late}},
		"make":   {made: []error{late, late}},
		"both":   {deleted: []error{late}, made: []error{late}},
	} {
		for by, again := range map[string]func(*series) error{
			"button":    func(s *series) error { return s.recreate(t.Context()) },
			"publisher": func(s *series) error { s.Publish(t.Context(), "prices.A", encode); return nil },
		} {
			b, _ := openPrices(t, t.TempDir())
			truth := newTruth()
			tries := failing{history: natsStream{b, "prices"}, deleted: f.deleted, made: f.made}
			s := newSeries("prices", &tries, truth, discard())
			if _, err := s.Open(t.Context(), "prices.A"); err != nil {
				t.Fatal(err)
			}
			s.Publish(t.Context(), "prices.A", encode)
			if err := s.recreate(t.Context()); !errors.Is(err, late) {
				t.Fatalf("%s, %s: %v, want %v", name, by, err, late)
			}
			if err := again(s); err != nil && !errors.Is(err, late) {
				t.Errorf("%s, %s: the second time: %v, want %v", name, by, err, late)
			}
			if err := again(s); err != nil {
				t.Errorf("%s, %s: the third time: %v", name, by, err)
			}
			s.Publish(t.Context(), "prices.A", encode)
			stream, err := b.Stream(t.Context(), "prices")
			if err != nil {
				t.Fatal(err)
			}
			numbers := numbersIn(t, stream)["prices.A"]
			stated := truthOf(t, truth).Streams["prices"]
			if e := stated.Subjects["prices.A"]; len(numbers) == 0 || e.First != 2 || stated.Life != 2 || numbers[0] != 2 || numbers[len(numbers)-1] != e.Last {
				t.Errorf("%s, %s: stored numbers %v, life %d from %+v; want 2 and on, life 2", name, by, numbers, stated.Life, *e)
			}
			b.Close()
		}
	}
}

// until waits until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for tick := time.Tick(5 * time.Millisecond); !holds(); {
		select {
		case <-tick:
		case <-timeout:
			t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// A price that walked to zero would stand still there for ever.
func TestPricesStayAboveZero(t *testing.T) {
	m := newMarket(rand.New(rand.NewPCG(3, 4)))
	for _, symbol := range m.Symbols() {
		m.Restore(quote{Symbol: symbol, Price: 1})
	}
	for range 10_000 {
		if q := m.Next(); q.Price < 1 {
			t.Fatalf("quote %+v below a cent", q)
		}
	}
}

// Amounts look alike from row to row, and a walk that is taken up again goes on
// at the very price where it was left.
func TestAmountsHaveTwoDecimals(t *testing.T) {
	for c, want := range map[cents]string{750: "7.50", 100_00: "100.00", 1: "0.01", -31: "-0.31", 0: "0.00"} {
		text, err := json.Marshal(c)
		if err != nil || string(text) != want {
			t.Errorf("%d cents: %s, %v; want %s", int64(c), text, err, want)
		}
		var back cents
		if err := json.Unmarshal(text, &back); err != nil || back != c {
			t.Errorf("%s read back: %d, %v; want %d", text, int64(back), err, int64(c))
		}
	}
}
