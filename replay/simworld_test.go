package replay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/ssebridge/ssebridge/bridge"
	"github.com/ssebridge/ssebridge/sources/sourcetest"
)

// simWorld is two brokers, some replicas of the bridge, and clients, moved by
// one goroutine in an order that a seed decides. Between two moves every other
// goroutine has come to rest.
type simWorld struct {
	rnd      *rand.Rand
	o        simOptions
	brokers  map[string]*sourcetest.Broker
	loss     map[string]sourcetest.Loss
	replicas []*simReplica
	clients  []*simClient
	txns     map[int32]*simTxn // of k, by partition

	// What the oracle knows.
	truth       map[int]simRecord // by uid
	died        map[int]int       // by uid: the move after which the record was no longer history
	moves       int
	oversized   map[simPlace]int
	rollbacks   map[string]map[int32][]bridge.Offset   // of every life
	lives       map[string]map[bridge.Incarnation]bool // that share the present history: more than one after a restore
	recreations map[string]int
	reverts     bool
	stats       simStats

	mu     sync.Mutex
	inLife map[string]map[int32][]bridge.Offset // rollbacks of the present life
	weak   map[string]bool                      // a rollback happened that nobody can see, see noteWeak and revert

	keep    bool // keep the trace
	trace   []string
	failure string
}

type simOptions struct {
	name                       string
	ops                        int
	onDemand                   int // of ten streams, so many are read on demand
	weights                    map[string]int
	replicas, clients, maxPart int
}

// simStats tells what the schedules met, to show that they are not idle.
type simStats struct {
	records, gaps, resets, weak int
	evictions, reads            uint64
	handOvers, falls            uint64
	idle                        uint64 // times a stream was, with clients to come
}

type simRecord struct {
	uid       int
	stream    string
	partition int32
	key       int
	aborted   bool
}

type simPlace struct {
	stream      string
	partition   int32
	offset      bridge.Offset
	incarnation bridge.Incarnation
	proof       bridge.Proof
}

// place names a record by the place behind it. What JetStream proves with is
// its own in every life.
func (w *simWorld) place(stream string, incarnation bridge.Incarnation, partition int32, behind bridge.Place) simPlace {
	if stream == "j" {
		incarnation = 0
	}
	return simPlace{stream, partition, behind.Offset - 1, incarnation, behind.Proof}
}

type simTxn struct {
	*sourcetest.Txn
	uids []int
}

// simReplica is one process of the bridge.
type simReplica struct {
	number  int
	sources map[string]*simSource
	streams map[string]*bridge.Stream
	idle    map[string]bool
	hub     *bridge.Hub
	replay  *Replay
	stop    context.CancelFunc
	ended   chan struct{}
}

// simSource is a replica's source, whose answers can be held up.
type simSource struct {
	*sourcetest.Source
	w      *simWorld
	stream string
	gates  map[simGate]*gate
}

type simGate struct {
	op    sourcetest.Op
	after bool
}

// gate lets operations through, or holds them until it is opened.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil: open
}

func (g *gate) pass(ctx context.Context, _ sourcetest.Op) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) toggle(open bool) (isOpen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	} else if !open {
		g.closed = make(chan struct{})
	}
	return g.closed == nil
}

// Verify notes which positions nobody can judge.
func (s *simSource) Verify(ctx context.Context, pos bridge.Position, known bridge.Known) (bridge.Verdict, error) {
	s.w.noteWeak(s.stream, pos)
	return s.Source.Verify(ctx, pos, known)
}

const simKeys = 3

func newSimWorld(seed uint64, o simOptions, keep bool) *simWorld {
	w := &simWorld{
		rnd: rand.New(rand.NewPCG(seed, 1)), o: o, keep: keep,
		brokers: map[string]*sourcetest.Broker{}, loss: map[string]sourcetest.Loss{}, txns: map[int32]*simTxn{},
		truth: map[int]simRecord{}, died: map[int]int{}, oversized: map[simPlace]int{},
		rollbacks: map[string]map[int32][]bridge.Offset{}, inLife: map[string]map[int32][]bridge.Offset{},
		lives: map[string]map[bridge.Incarnation]bool{}, recreations: map[string]int{}, weak: map[string]bool{}, reverts: o.weights["revert"] > 0,
	}
	w.loss["j"] = []sourcetest.Loss{sourcetest.LossRetention, sourcetest.LossRetention, sourcetest.LossLimits, sourcetest.LossNone}[w.rnd.IntN(4)]
	w.brokers["j"] = sourcetest.NewBroker(sourcetest.BrokerOptions{Name: "J", Loss: w.loss["j"], Subjects: []string{"j.>"}})
	w.brokers["k"] = sourcetest.NewBroker(sourcetest.BrokerOptions{Name: "K", Kind: sourcetest.KafkaLike, Partitions: 2 + w.rnd.IntN(o.maxPart-1)})
	for _, name := range simNames {
		w.lives[name] = map[bridge.Incarnation]bool{w.brokers[name].Incarnation(): true}
	}
	for i := range o.replicas {
		w.replicas = append(w.replicas, w.newReplica(i))
	}
	for i := range o.clients {
		c := &simClient{w: w, number: i, keys: make([]bool, simKeys), seen: map[string]map[int32]*simSeen{}}
		c.names = [][]string{{"j", "k"}, {"k"}, {"j", "k"}, {"j"}}[w.rnd.IntN(4)]
		c.start.Kind = []bridge.StartKind{bridge.StartNew, bridge.StartAll}[w.rnd.IntN(2)]
		c.reset = []bridge.OnReset{"", "", bridge.ResetAll, bridge.ResetSince, bridge.ResetNew}[w.rnd.IntN(5)]
		set := 1 + w.rnd.IntN(1<<simKeys-1)
		var patterns []bridge.Pattern
		for key := range c.keys {
			if c.keys[key] = set&(1<<key) != 0; c.keys[key] {
				patterns = append(patterns, bridge.Pattern("*."+simKey(key)))
			}
		}
		c.filter = bridge.NewFilter(patterns...)
		w.clients = append(w.clients, c)
	}
	return w
}

func simKey(key int) string { return "k" + strconv.Itoa(key) }

func (w *simWorld) newReplica(number int) *simReplica {
	r := &simReplica{number: number, sources: map[string]*simSource{}, streams: map[string]*bridge.Stream{}, idle: map[string]bool{}, ended: make(chan struct{})}
	subject, err := bridge.ParseSubjectTemplate("k.{key}")
	if err != nil {
		panic(err)
	}
	var streams []*bridge.Stream
	for _, name := range simNames {
		s := &simSource{w: w, stream: name, gates: map[simGate]*gate{}}
		for _, at := range simGates {
			s.gates[at] = &gate{}
		}
		hook := func(after bool) sourcetest.Hook {
			return func(ctx context.Context, op sourcetest.Op) error {
				if g := s.gates[simGate{op, after}]; g != nil {
					return g.pass(ctx, op)
				}
				return nil
			}
		}
		o := bridge.StreamOptions{MaxEventBytes: 40, OnReset: []bridge.OnReset{bridge.ResetAll, bridge.ResetSince, bridge.ResetNew}[w.rnd.IntN(3)]}
		s.Source = w.brokers[name].Source(sourcetest.SourceOptions{Stepped: true, OnReset: o.OnReset, Before: hook(false), After: hook(true)})
		if name == "k" {
			o.Subject = subject
		}
		o.OnDemand = w.rnd.IntN(10) < w.o.onDemand
		o.Linger = time.Duration(1+w.rnd.IntN(40)) * time.Second // below and above a feed's
		r.sources[name] = s
		r.streams[name] = bridge.NewStream(name, s, o)
		streams = append(streams, r.streams[name])
	}
	r.hub = bridge.NewHub(streams, bridge.HubOptions{RingBytes: int64(900 + w.rnd.IntN(3600))})
	r.replay = New(r.hub, Options{
		CacheBytes: int64(2000 + w.rnd.IntN(30000)), Reads: 1 + w.rnd.IntN(4),
		runOffsets: bridge.Offset(2 + w.rnd.IntN(5)), takeEvents: 1 + w.rnd.IntN(5),
	})
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.ended)
		_ = r.hub.Run(ctx) // ends with ctx
	}()
	return r
}

// simNames and simGates are lists, because the order of a map is no seed's.
var (
	simNames = []string{"j", "k"}
	simGates = []simGate{
		{sourcetest.OpVerify, false},
		{sourcetest.OpVerify, true},
		{sourcetest.OpReadChunk, false},
		{sourcetest.OpReadChunk, true},
		{sourcetest.OpBounds, true},
		{sourcetest.OpPositionAt, true},
	}
)

func (w *simWorld) log(format string, args ...any) {
	if w.keep {
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

func (w *simWorld) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.log("!! %s", w.failure)
	}
}

// noteWeak notes positions that lie beyond a rollback which nothing can prove:
// on JetStream the record before the position is gone, on Kafka it has no
// proof, or retention took what the epoch of the proof wrote. The documentation says so; the oracle demands less then.
func (w *simWorld) noteWeak(stream string, pos bridge.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.brokers[stream]
	if pos.Incarnation != b.Incarnation() {
		return
	}
	for p, pl := range pos.Places {
		for _, to := range w.inLife[stream][int32(p)] {
			if pl.Offset <= to || pl.Offset > b.Ends(int32(p)).End {
				continue
			}
			ends := b.Ends(int32(p))
			provable := pl.Proof != 0 && (stream == "j" || pl.Offset > ends.First)
			if stream == "j" && provable {
				provable = false
				for _, h := range b.Held(0) {
					provable = provable || h.Record.Offset == pl.Offset-1
				}
			}
			if !provable {
				w.weak[stream] = true
			}
		}
	}
}

func (w *simWorld) isWeak(stream string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.weak[stream]
}

func (w *simWorld) rolledBack(stream string, partition int32) bool {
	return len(w.inLife[stream][partition]) > 0
}

func (w *simWorld) everRolled(stream string, partition int32) []bridge.Offset {
	return w.rollbacks[stream][partition]
}

// step moves one live reader by one record or finding.
func (w *simWorld) step(r *simReplica, name string, partition int32) bool {
	live, _ := r.streams[name].Live()
	w.noteWeak(name, live)
	moved := r.sources[name].Step(partition)
	if moved && w.keep {
		live, _ := r.streams[name].Live()
		w.log("r%d reads %s/%d: %v", r.number, name, partition, live)
	}
	synctest.Wait()
	return moved
}

func (w *simWorld) append(name string, partition int32) {
	key := w.rnd.IntN(simKeys)
	uid := len(w.truth) + 1
	m := sourcetest.Message{Partition: partition, Subject: "j." + simKey(key), Key: []byte(simKey(key)), Data: strconv.AppendInt(nil, int64(uid), 10)}
	if txn := w.txns[partition]; txn != nil && name == "k" && w.rnd.IntN(2) == 0 {
		if txn.Append(m) {
			w.truth[uid] = simRecord{uid: uid, stream: name, partition: partition, key: key}
			txn.uids = append(txn.uids, uid)
			w.log("append %s/%d key %d u%d in a transaction", name, partition, key, uid)
		}
		return
	}
	large := w.rnd.IntN(12) == 0
	if large {
		m.Data = append(m.Data, strings.Repeat(" ", 50)...)
	}
	rec, ok := w.brokers[name].Append(m)
	if !ok {
		return
	}
	w.truth[uid] = simRecord{uid: uid, stream: name, partition: partition, key: key}
	if large {
		w.oversized[w.place(name, w.brokers[name].Incarnation(), partition, rec.Next())] = uid
	}
	w.log("append %s/%d@%d key %d u%d", name, partition, rec.Offset, key, uid)
}

func simUID(data []byte) int {
	text, _, _ := strings.Cut(string(data), " ")
	uid, _ := strconv.Atoi(text)
	return uid
}

func (w *simWorld) txn(partition int32) {
	txn := w.txns[partition]
	switch {
	case txn == nil:
		if x, ok := w.brokers["k"].Begin(partition); ok {
			w.txns[partition] = &simTxn{Txn: x}
			w.log("transaction begins in k/%d", partition)
		}
	case w.rnd.IntN(2) == 0:
		w.abort(partition)
	default:
		w.log("transaction of k/%d commits: %v", partition, txn.Commit())
		delete(w.txns, partition)
	}
}

func (w *simWorld) abort(partition int32) {
	txn := w.txns[partition]
	if txn.Abort() {
		for _, uid := range txn.uids {
			r := w.truth[uid]
			r.aborted = true
			w.truth[uid] = r
		}
	}
	w.log("transaction of k/%d is aborted", partition)
	delete(w.txns, partition)
}

func (w *simWorld) rollback(name string, partition int32) {
	b := w.brokers[name]
	ends := b.Ends(partition)
	if name == "k" && w.txns[partition] != nil || ends.End <= ends.First {
		return
	}
	to := ends.First + bridge.Offset(w.rnd.Int64N(int64(ends.End-ends.First)))
	if !b.Rollback(partition, to) {
		return
	}
	w.mu.Lock()
	for _, byPartition := range []map[string]map[int32][]bridge.Offset{w.rollbacks, w.inLife} {
		if byPartition[name] == nil {
			byPartition[name] = map[int32][]bridge.Offset{}
		}
		byPartition[name][partition] = append(byPartition[name][partition], to)
	}
	w.mu.Unlock()
	w.buryDead(name)
	w.log("rollback %s/%d to %d", name, partition, to)
}

// buryDead notes which records are no longer history.
func (w *simWorld) buryDead(name string) {
	for _, h := range w.brokers[name].History() {
		uid := simUID(h.Record.Data)
		switch h.Fate {
		case sourcetest.RolledBack, sourcetest.Removed:
			if w.died[uid] == 0 {
				w.died[uid] = w.moves
			}
		case sourcetest.Held, sourcetest.Deleted, sourcetest.Trimmed:
			delete(w.died, uid) // maybe a second election has brought it back
		}
	}
}

// op makes one move.
func (w *simWorld) op() {
	w.moves++
	total := 0
	for _, name := range simOps {
		total += w.o.weights[name]
	}
	x, op := w.rnd.IntN(total), ""
	for _, name := range simOps {
		if x -= w.o.weights[name]; x < 0 {
			op = name
			break
		}
	}
	name := "k"
	if w.rnd.IntN(3) == 0 {
		name = "j"
	}
	b := w.brokers[name]
	partition := int32(w.rnd.IntN(max(1, b.Partitions())))
	ends := b.Ends(partition)
	r := w.replicas[w.rnd.IntN(len(w.replicas))]
	c := w.clients[w.rnd.IntN(len(w.clients))]
	switch op {
	case "append":
		w.append(name, partition)
	case "live":
		w.step(r, name, partition)
	case "discover":
		if r.sources["k"].Discover() {
			w.log("r%d discovers partitions", r.number)
		}
	case "pump":
		if c.conn != nil && !c.conn.stuck {
			w.pump(c)
		}
	case "connect":
		if c.conn == nil {
			w.connect(c, r)
		}
	case "cut":
		if c.conn != nil {
			w.cut(c)
		}
	case "stuck":
		if c.conn != nil {
			c.conn.stuck = !c.conn.stuck
		}
	case "delete":
		if ends.Stable > ends.First {
			offset := ends.First + bridge.Offset(w.rnd.Int64N(int64(ends.Stable-ends.First)))
			if b.Delete(partition, offset) {
				w.log("delete %s/%d@%d", name, partition, offset)
			}
		}
	case "trim":
		if ends.Stable > ends.First {
			to := ends.First + 1 + bridge.Offset(w.rnd.Int64N(int64(ends.Stable-ends.First)))
			if b.Trim(partition, to) {
				w.log("trim %s/%d to %d", name, partition, b.Ends(partition).First)
			}
		}
	case "grow":
		if n := b.Partitions(); name == "k" && n > 0 && n < 5 && b.Grow(n+1) {
			w.log("grow k to %d", n+1)
		}
	case "epoch":
		if b.NewEpoch(partition) {
			w.log("new leader of %s/%d", name, partition)
		}
	case "rollback":
		w.rollback(name, partition)
	case "revert":
		if w.txns[partition] == nil && b.Revert(partition) {
			w.log("revert %s/%d", name, partition)
			w.buryDead(name)
			w.mu.Lock()
			w.weak[name] = true // the broker itself does not know where such histories part
			w.mu.Unlock()
		}
	case "recreate":
		w.newLife(name)
		n := 1 + w.rnd.IntN(3)
		b.Recreate(n)
		w.buryDead(name)
		w.lives[name] = map[bridge.Incarnation]bool{b.Incarnation(): true}
		w.log("recreate %s with %d partitions", name, b.Partitions())
	case "restore":
		if name == "j" && b.Restore() {
			w.log("restore j from a backup")
			w.lives[name][b.Incarnation()] = true
			w.recreations[name]++
		}
	case "remove":
		w.newLife(name)
		b.Remove()
		w.buryDead(name)
		w.log("remove %s", name)
	case "txn":
		if b.Partitions() > 0 && name == "k" {
			w.txn(partition)
		}
	case "time":
		time.Sleep(time.Duration(1+w.rnd.IntN(3000)) * time.Millisecond)
	case "beat":
		w.log("16 s pass")
		time.Sleep(16 * time.Second)
	case "idle":
		w.leave(r)
	case "gate":
		at := simGates[w.rnd.IntN(len(simGates))]
		w.log("r%d %s %v open: %v", r.number, name, at, r.sources[name].gates[at].toggle(false))
	case "down":
		w.log("%s is down", name)
		b.Down()
	case "up":
		b.Up()
	}
	synctest.Wait()
}

// leave cuts all clients of a replica, for long enough that what it reads on
// demand is read no more.
func (w *simWorld) leave(r *simReplica) {
	for _, c := range w.clients {
		if c.conn != nil && c.conn.replica == r {
			w.cut(c)
		}
	}
	time.Sleep(time.Duration(w.rnd.IntN(45)) * time.Second)
	w.log("r%d has no clients for a while", r.number)
}

// noteIdle counts how often streams fall idle.
func (w *simWorld) noteIdle() {
	for _, r := range w.replicas {
		for _, name := range simNames {
			idle := r.streams[name].Status().State == "idle"
			if idle && !r.idle[name] {
				w.stats.idle++
				w.log("r%d %s is idle", r.number, name)
			}
			r.idle[name] = idle
		}
	}
}

func (w *simWorld) newLife(name string) {
	w.recreations[name]++
	w.mu.Lock()
	w.inLife[name] = nil
	w.mu.Unlock()
	if name == "k" {
		clear(w.txns)
	}
}

var simOps = []string{
	"append", "live", "discover", "pump", "cut", "connect", "delete", "trim", "grow", "rollback", "revert", "recreate", "restore", "remove",
	"txn", "epoch", "time", "beat", "stuck", "gate", "idle", "down", "up",
}

// run makes the moves, lets everything settle, and asks the oracle.
func (w *simWorld) run() {
	synctest.Wait()
	for range w.o.ops {
		w.op()
		w.noteIdle()
		if w.failure != "" {
			break
		}
	}
	if w.failure == "" {
		w.settle()
	}
	for _, c := range w.clients {
		if c.conn != nil {
			w.cut(c)
		}
	}
	for _, r := range w.replicas {
		w.stats.evictions += r.hub.Stats().Evictions
		st := r.replay.Stats()
		w.stats.reads += st.Reads
		w.stats.handOvers += st.HandOvers
		w.stats.falls += st.Falls
		r.replay.Close()
		r.stop()
		<-r.ended
	}
}

// settleRounds is how many rounds everything may need to come to rest.
const settleRounds = 400

// settle ends all trouble and lets everybody become level.
func (w *simWorld) settle() {
	w.log("-- settle")
	for p := range int32(8) {
		if w.txns[p] != nil {
			w.abort(p)
		}
	}
	for _, name := range simNames {
		w.brokers[name].Up()
		if w.brokers[name].Partitions() == 0 {
			w.brokers[name].Recreate(2)
			w.lives[name] = map[bridge.Incarnation]bool{w.brokers[name].Incarnation(): true}
		}
		for _, r := range w.replicas {
			for _, at := range simGates {
				r.sources[name].gates[at].toggle(true)
			}
		}
	}
	for round, quiet := 0, 0; quiet < 2 && w.failure == ""; round++ {
		if round == settleRounds {
			w.unsettled()
			return
		}
		busy := false
		for _, r := range w.replicas {
			for _, name := range simNames {
				busy = r.sources[name].Discover() || busy
				for p := range int32(w.brokers[name].Partitions()) {
					busy = w.step(r, name, p) || busy
				}
			}
		}
		for _, c := range w.clients {
			if c.conn == nil {
				w.connect(c, w.replicas[w.rnd.IntN(len(w.replicas))])
			}
			c.conn.stuck = false
			id := c.id
			for i := 0; i < 20 && w.failure == "" && w.pump(c); i++ {
			}
			busy = busy || c.id != id || c.conn.follower.Group() == nil
		}
		if quiet++; busy {
			quiet = 0
			time.Sleep(3 * time.Second)
		} else {
			time.Sleep(16 * time.Second) // for the last positions
		}
	}
	for _, c := range w.clients {
		if w.failure != "" {
			return
		}
		c.final()
		if c.conn.caughtUp != 1 {
			w.fail("CAUGHT UP c%d %d times", c.number, c.conn.caughtUp)
		}
		if head := c.conn.follower.group.Head().Head.String(); c.id != head {
			w.fail("POSITION c%d is %s in the end, the feed's %s", c.number, c.id, head)
		}
	}
}

// unsettled says who does not become level.
func (w *simWorld) unsettled() {
	for _, c := range w.clients {
		if f := c.conn.follower; f.Group() == nil {
			head := "none"
			if f.group != nil {
				head = f.group.Head().Head.String()
			}
			w.fail("NOT LEVEL c%d at %s, head %s", c.number, c.id, head)
		}
	}
	w.fail("RESTLESS")
}
