package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// quote is one record of prices.<symbol>.
type quote struct {
	Number uint64 `json:"n"` // running number on this symbol
	Symbol string `json:"symbol"`
	Price  cents  `json:"price"`
	Change cents  `json:"change"` // since the quote before
}

// cents is an amount of money. Its JSON is a number with two decimals: 7.50.
type cents int64

// MarshalJSON never fails.
func (c cents) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(c)/100, 'f', 2, 64), nil
}

// UnmarshalJSON reads any number and rounds it.
func (c *cents) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("want an amount, not %s", text)
	}
	*c = cents(math.Round(v * 100))
	return nil
}

// encode cannot fail: numbers and the market's own symbols always encode.
func (q quote) encode() []byte {
	data, err := json.Marshal(q)
	if err != nil {
		panic(fmt.Sprintf("encode quote %+v: %v", q, err))
	}
	return data
}

// priceSubject is the subject of a symbol's quotes.
func priceSubject(symbol string) string { return "prices." + symbol }

// market walks the prices of a few invented symbols at random. It is used by
// one goroutine.
type market struct {
	random *rand.Rand
	quotes []quote // the newest of each symbol
	turn   int
}

func newMarket(random *rand.Rand) *market {
	return &market{random: random, quotes: []quote{
		{Symbol: "ACME", Price: 100_00},
		{Symbol: "GLOBEX", Price: 42_00},
		{Symbol: "HOOLI", Price: 250_00},
		{Symbol: "INITECH", Price: 7_50},
		{Symbol: "UMBRELLA", Price: 63_00},
	}}
}

// Symbols returns the symbols in the order in which they take turns.
func (m *market) Symbols() []string {
	symbols := make([]string, len(m.quotes))
	for i, q := range m.quotes {
		symbols[i] = q.Symbol
	}
	return symbols
}

// Restore takes up the walk of a symbol where an earlier run left it.
func (m *market) Restore(last quote) {
	for i := range m.quotes {
		if m.quotes[i].Symbol == last.Symbol && last.Price > 0 {
			m.quotes[i].Price = last.Price
		}
	}
}

// Next moves the price of the symbol whose turn it is by up to half a percent,
// and never below one cent. Its Number is the caller's to set.
func (m *market) Next() quote {
	q := &m.quotes[m.turn]
	m.turn = (m.turn + 1) % len(m.quotes)
	before := q.Price
	step := (m.random.Float64() - 0.5) / 100
	q.Price = max(1, cents(math.Round(float64(before)*(1+step))))
	q.Change = q.Price - before
	return *q
}
