package sink

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/ssebridge/ssebridge/bridge"
)

const (
	// minShared is how many clients of a group make a compressor worth its memory.
	minShared = 4
	// historyBytes is how much text a history covers until it begins anew, which is
	// when clients can join it. Longer ones hardly save more.
	historyBytes = 64 << 10
	// joinAfter is the age from which a history begins anew for those who wait to join,
	// as in a quiet group it takes hours to come to historyBytes.
	joinAfter = 5 * time.Second
	// largestShared is the largest text that is compressed at once: others wait
	// meanwhile.
	largestShared = 128 << 10
	// keptBlocks and keptBytes bound the blocks that are kept for those who come to
	// them a little later; keptLone and keptBytes those without a history. Of these
	// there are a few at a time, as each shard may be at other places.
	keptBlocks, keptLone, keptBytes = 64, 8, 64 << 10
	// grantPause is how often at most a group asks for memory that it was refused.
	grantPause = time.Second
)

// What compressors of the library take, measured, and what they are given with
// what they have made: the blocks that are kept, and the newest one, with a history
// and without.
const (
	madeBytes = 2 * (keptBytes + largestShared)
	gzipBytes = 1024<<10 + madeBytes
	zstdBytes = 640<<10 + madeBytes
)

// compressors are those of all groups, within a budget of bytes.
//
// Compressing once for all is possible where all are told the same from the same
// place on. A group's compressor makes one stream of blocks whose history begins
// anew now and then:
//
//	history      ┌───────────────────┐┌──────────────┐
//	blocks       [a b] [c] [:] [d e f][g] [h] [i j] …
//	who joins    ^ at the beginning    ^ or here
//
// A client that is told something of its own, because it was not at the same place
// as the others, leaves the history, as what follows in it may mean what it has not
// got; it joins when a history begins where it is. Until then it is given what
// is compressed without a history, once for all who wait.
type compressors struct {
	limit  int64         // bytes
	frames *zstd.Encoder // for what is compressed without a history; nil unless zstd is offered

	// Histories of which nobody has the memory now, until the next collection of
	// garbage: those who come and go need not make as much.
	spare map[Coding]*sync.Pool

	last lastSum

	mu      sync.Mutex
	used    int64
	byKey   map[compressorKey]*compressor
	granted map[*compressor]bool // that have a history, and its memory
}

// compressorKey tells whose text is the same to the byte.
type compressorKey struct {
	group   *bridge.Group
	coding  Coding
	control bool // whether positions are told
}

// newCompressors returns those for responses in the given codings, within so many
// bytes.
func newCompressors(codings []Coding, limit int64) *compressors {
	cs := &compressors{limit: limit, spare: map[Coding]*sync.Pool{Gzip: new(sync.Pool), Zstd: new(sync.Pool)}, byKey: map[compressorKey]*compressor{}, granted: map[*compressor]bool{}}
	if slices.Contains(codings, Zstd) {
		cs.frames = newZstd()
		cs.used = zstdBytes
	}
	return cs
}

// newZstd makes an encoder. It panics if the library refuses our constants.
func newZstd() *zstd.Encoder {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(historyBytes), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(fmt.Sprintf("make a zstd encoder: %v", err))
	}
	return w
}

// active returns how many compressors there are, and the bytes that they take.
func (cs *compressors) active() (n int, bytes int64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.granted), cs.used
}

// enter returns the compressor of a key, for one client more.
func (cs *compressors) enter(key compressorKey) *compressor {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	z := cs.byKey[key]
	if z == nil {
		z = &compressor{all: cs, key: key}
		cs.byKey[key] = z
	}
	z.clients.Add(1)
	return z
}

// leave is for one client less.
func (cs *compressors) leave(z *compressor) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	left := z.clients.Add(-1)
	if left < minShared && cs.granted[z] {
		cs.revoke(z)
	}
	if left == 0 {
		delete(cs.byKey, z.key)
	}
}

// grant gives a compressor its memory, if there is any, or if another group that
// has some is so much smaller that all together gain.
func (cs *compressors) grant(z *compressor) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.granted[z] || z.clients.Load() < minShared {
		return
	}
	price := z.key.coding.price()
	free := cs.limit - cs.used
	for other := range cs.granted {
		if other.yieldsTo(z) {
			free += other.key.coding.price()
		}
	}
	if free < price {
		return
	}
	for cs.used+price > cs.limit {
		var least *compressor
		for other := range cs.granted {
			if other.yieldsTo(z) && (least == nil || other.clients.Load() < least.clients.Load()) {
				least = other
			}
		}
		cs.revoke(least)
	}
	cs.used += price
	cs.granted[z] = true
	h, _ := cs.spare[z.key.coding].Get().(*history)
	if h == nil {
		h = newHistory(z.key.coding)
	}
	z.set(h)
}

// yieldsTo reports whether more is saved if another one has the memory instead.
func (z *compressor) yieldsTo(other *compressor) bool {
	return 2*z.clients.Load() <= other.clients.Load()
}

// revoke takes a compressor's memory back.
func (cs *compressors) revoke(z *compressor) {
	cs.used -= z.key.coding.price()
	delete(cs.granted, z)
	cs.spare[z.key.coding].Put(z.set(nil))
}

func (c Coding) price() int64 {
	if c == Zstd {
		return zstdBytes
	}
	return gzipBytes
}

// compressor makes the blocks of one group in one coding. Its methods are safe for
// concurrent use.
type compressor struct {
	all     *compressors
	key     compressorKey
	clients atomic.Int32 // changed under all.mu
	asked   atomic.Int64 // when memory was asked for last, in Unix nanoseconds

	mu      sync.Mutex
	history *history // nil: there is no memory for it
	covers  int      // bytes of text since it began
	began   time.Time
	moved   time.Time // when the newest block was made
	waited  bool      // somebody would like to join
	joined  int       // clients

	blocks []block // the newest ones
	base   uint64  // number of blocks[0]
	bytes  int     // of blocks
	end    uint64  // the group's place behind them
	text   sum     // of everything so far

	lone      []block // the newest ones that were compressed without a history
	loneBytes int     // of lone
}

// block is something compressed.
type block struct {
	coded    []byte
	from, to uint64 // places in the group; equal: a sign of life
	id       string // of a sign of life, if it has one
	first    bool   // a history begins with it
	before   sum    // of everything before it
	after    sum
}

// newer returns the id of the newest sign of life behind the last event, when those
// before the block have come to id.
func (b *block) newer(id string) string {
	if b.id != "" || b.from < b.to {
		return b.id
	}
	return id
}

// set sets the history, and returns the one before.
func (z *compressor) set(h *history) (before *history) {
	z.mu.Lock()
	defer z.mu.Unlock()
	before, z.history = z.history, h
	z.covers = historyBytes // whoever is in the old one must be told of a new one
	z.keep(0)
	z.lone, z.loneBytes = nil, 0
	return before
}

// keep lets go of the oldest blocks until there are so many.
func (z *compressor) keep(n int) {
	drop := len(z.blocks) - n
	for _, b := range z.blocks[:drop] {
		z.bytes -= len(b.coded)
	}
	clear(z.blocks[:drop])
	z.blocks = z.blocks[drop:]
	z.base += uint64(drop)
}

// share is one client's part in what its group's compressor makes. The zero share
// has none. It belongs to whoever serves the client.
type share struct {
	z      *compressor
	joined bool   // it has all of the history
	next   uint64 // number of the block that comes next
	from   sum    // of everything when it joined
	to     sum    // of everything up to next
}

// enter gives a client, which is level in a group, a share in what is made for that.
func (b *body) enter(group *bridge.Group) {
	if b.share.z != nil && b.share.z.key.group == group {
		return
	}
	b.exit()
	b.share.z = b.all.enter(compressorKey{group, b.coding, b.control})
}

// exit lets go of the share, and with that of the history.
func (b *body) exit() {
	b.text = b.text.then(b.share.leave())
	if b.share.z != nil {
		b.all.leave(b.share.z)
		b.share.z = nil
	}
}

// leave leaves the history, and returns the sum of the text that the client got of
// it.
func (s *share) leave() (text sum) {
	if !s.joined {
		return sum{}
	}
	s.z.mu.Lock()
	s.z.joined--
	s.z.mu.Unlock()
	s.joined = false
	return s.to.since(s.from)
}

// next puts a batch as its clients' compressor has it into p, and takes the client
// behind it. It returns false if it has to be told to this client alone. id is that
// of the sign of life which ends it, which may be one that another client was given;
// empty: it has none, or the batch's last event has a newer one.
func (b *body) next(batch *bridge.Batch, now time.Time, p *payload) (id string, ok bool) {
	z := b.share.z
	if z == nil || z.key.group != batch.Group || b.coding == Gzip && !b.begun || !z.lock(now) {
		return "", false
	}
	if !b.share.joined {
		z.join(&b.share, batch, now)
	}
	if b.share.joined {
		if id, ok = z.follow(b, batch, now, p); ok {
			z.mu.Unlock()
			return id, true
		}
	}
	z.waited = true
	lone, shorter := z.withoutHistory(batch)
	z.mu.Unlock()
	if !shorter {
		return "", false
	}
	*p = payload{before: b.open(), blocks: [][]byte{lone.coded}}
	b.text = b.text.then(lone.after)
	return "", true
}

// lock locks z.mu if there is memory for the compressor. It asks for that now and
// then.
func (z *compressor) lock(now time.Time) bool {
	z.mu.Lock()
	if z.history != nil {
		return true
	}
	z.mu.Unlock()
	if z.clients.Load() < minShared {
		return false
	}
	asks, asked := now.UnixNano(), z.asked.Load()
	if asked != 0 && asks-asked < int64(grantPause) || !z.asked.CompareAndSwap(asked, asks) {
		return false
	}
	z.all.grant(z)
	z.mu.Lock()
	if z.history == nil {
		z.mu.Unlock()
		return false
	}
	return true
}

// join lets a client join a history that begins where it is, if there is one or it
// is time for one.
func (z *compressor) join(s *share, batch *bridge.Batch, now time.Time) {
	for i := len(z.blocks) - 1; i >= 0; i-- {
		b := &z.blocks[i]
		if b.from == batch.From && b.id != "" {
			break // it may have come with a newer position than that
		}
		if b.first && b.from == batch.From {
			z.let(s, z.base+uint64(i), b.before)
			return
		}
	}
	// Those who are in the history come first: they may still be behind. But one whose
	// socket takes nothing must not keep all others out.
	abandoned := z.joined == 0 || batch.From > z.end && now.Sub(z.moved) >= joinAfter
	if !abandoned && (batch.From != z.end || !z.due(now, true)) {
		return
	}
	z.end, z.covers = batch.From, historyBytes // it begins anew
	z.let(s, z.base+uint64(len(z.blocks)), z.text)
}

func (z *compressor) let(s *share, next uint64, text sum) {
	z.joined++
	*s = share{z: z, joined: true, next: next, from: text, to: text}
}

// due reports whether the history should begin anew.
func (z *compressor) due(now time.Time, waited bool) bool {
	return z.covers >= historyBytes || waited && now.Sub(z.began) >= joinAfter
}

// follow puts into p the blocks that make up a batch for a client in the history,
// and makes the last one if it is missing. It returns false if they do not make it
// up, as when others were told more at once.
func (z *compressor) follow(b *body, batch *bridge.Batch, now time.Time, p *payload) (id string, ok bool) {
	s := &b.share
	if s.next < z.base {
		return "", false
	}
	begin := int(s.next - z.base)
	end, at := begin, batch.From
	for ; end < len(z.blocks); end++ {
		k := &z.blocks[end]
		if at == batch.To && k.to > at {
			break
		}
		if k.from != at || k.to > batch.To {
			return "", false
		}
		at, id = k.to, k.newer(id)
	}
	// A sign of life may be one that another client was given, but a position must not
	// become one without.
	if at < batch.To || batch.From == batch.To && (end == begin || batch.ID != "" && id == "") {
		if end < len(z.blocks) || at != z.end || !z.compress(batch, int(at-batch.From), now) {
			return "", false
		}
		id = z.blocks[end].newer(id)
		end++
	}
	var blocks [][]byte
	for i := range z.blocks[begin:end] {
		k := &z.blocks[begin+i]
		if k.first && b.coding == Zstd && b.begun {
			blocks = append(blocks, []byte(zstdLast))
		}
		blocks = append(blocks, k.coded)
		b.begun, s.to = true, k.after
	}
	s.next = z.base + uint64(end)
	for len(z.blocks) > 1 && (len(z.blocks) > keptBlocks || z.bytes > keptBytes) {
		z.keep(len(z.blocks) - 1)
	}
	*p = payload{blocks: blocks}
	return id, true
}

// compress makes the next block of a batch's units from the given one on. It
// returns false if they are too large.
func (z *compressor) compress(batch *bridge.Batch, from int, now time.Time) bool {
	units := batch.Units[from:]
	size := sizeOf(units)
	if size > largestShared {
		return false
	}
	b := block{from: batch.From + uint64(from), to: batch.To, id: batch.ID, before: z.text}
	if b.first = z.due(now, z.waited); b.first {
		z.covers, z.began, z.waited = 0, now, false
	}
	z.covers += size
	b.coded = z.history.compress(units, b.first)
	z.text = z.sumOf(z.text, units)
	b.after, z.end, z.moved = z.text, b.to, now
	z.blocks = append(z.blocks, b)
	z.bytes += len(b.coded)
	return true
}

// sumOf adds units to a sum, if the coding has use for it.
func (z *compressor) sumOf(s sum, units [][]byte) sum {
	if z.key.coding != Gzip {
		return sum{}
	}
	for _, u := range units {
		s = s.add(u)
	}
	return s
}

// withoutHistory returns a batch compressed by itself, once for all who are at the
// same place, with the sum of the batch alone. shorter is false if that is of no
// use.
func (z *compressor) withoutHistory(batch *bridge.Batch) (lone block, shorter bool) {
	size := sizeOf(batch.Units)
	if batch.From == batch.To || size > largestShared {
		return block{}, false
	}
	i := slices.IndexFunc(z.lone, func(b block) bool { return b.from == batch.From && b.to == batch.To })
	if i < 0 {
		b := block{from: batch.From, to: batch.To, after: z.sumOf(sum{}, batch.Units)}
		if text := bytes.Join(batch.Units, nil); z.key.coding == Zstd {
			b.coded = z.all.frames.EncodeAll(text, nil)
		} else {
			var out bytes.Buffer
			_ = flate.StatelessDeflate(&out, text, false, nil) // into memory
			b.coded = bytes.Clone(out.Bytes())
		}
		i = len(z.lone)
		z.lone = append(z.lone, b)
		z.loneBytes += len(b.coded)
		for i > 0 && (i >= keptLone || z.loneBytes > keptBytes) {
			z.loneBytes -= len(z.lone[0].coded)
			z.lone = slices.Delete(z.lone, 0, 1)
			i--
		}
	}
	return z.lone[i], len(z.lone[i].coded) < size
}

func sizeOf(units [][]byte) (n int) {
	for _, u := range units {
		n += len(u)
	}
	return n
}

// history is the library's compressor of one coding.
type history struct {
	out   bytes.Buffer
	write interface {
		Write(p []byte) (int, error)
		Flush() error
	}
	reset func()
}

// newHistory makes one. Its first block has to be a first one.
func newHistory(c Coding) *history {
	h := new(history)
	if c == Zstd {
		w := newZstd()
		h.write, h.reset = w, func() { w.Reset(&h.out) }
		return h
	}
	w, err := flate.NewWriter(nil, gzipLevel)
	if err != nil {
		panic(fmt.Sprintf("make a deflate compressor: %v", err))
	}
	h.write, h.reset = w, func() { w.Reset(&h.out) }
	return h
}

// gzipLevel is the fastest level of the library that comes within 2 % of the ratio
// of zlib's default on small JSON events.
const gzipLevel = 7

// compress compresses units, without what was before if first.
func (h *history) compress(units [][]byte, first bool) []byte {
	h.out.Reset()
	if first {
		h.reset()
	}
	for _, u := range units {
		_, _ = h.write.Write(u) // into memory
	}
	_ = h.write.Flush()
	return bytes.Clone(h.out.Bytes())
}
