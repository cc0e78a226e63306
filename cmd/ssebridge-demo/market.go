package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
)

// quote is one record of prices.<symbol>.
type quote struct {
	Number uint64  `json:"n"` // running number on this symbol
	Symbol string  `json:"symbol"`
	Price  float64 `json:"price"`
	Change float64 `json:"change"` // since the quote before
}

// encode cannot fail: the numbers are finite.
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
		{Symbol: "ACME", Price: 100},
		{Symbol: "GLOBEX", Price: 42},
		{Symbol: "HOOLI", Price: 250},
		{Symbol: "INITECH", Price: 7.5},
		{Symbol: "UMBRELLA", Price: 63},
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
	q.Price = max(0.01, cents(before*(1+(m.random.Float64()-0.5)/100)))
	q.Change = cents(q.Price - before)
	return *q
}

func cents(v float64) float64 { return math.Round(v*100) / 100 }
