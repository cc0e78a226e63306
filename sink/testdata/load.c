/*
 * load is many clients of a server of event streams, each as cheap as can be:
 * one thread, one epoll, one recv(2) for whatever a client has been sent. It
 * undoes chunks, and within them looks at nothing but marks: a record is the byte
 * MARK, its number (8 digits) and the time when it was made (19 digits, ns since
 * 1970). Numbers rise by one, so each client knows whether it has lost something
 * or got it twice.
 *
 *     load PORT
 *
 * It obeys commands on standard input, one a line. Clients belong to groups, 0 to
 * 7; {i} in a path stands for a client's number in its group. Each command but
 * nap, churn and coding prints one line of JSON when it is carried out:
 *
 *     open GROUP CLIENTS PATH [ID]      connect, with a last event id; done when each has got a block
 *     from GROUP NUMBER                 the first record that each should get
 *     reach GROUP NUMBER                wait until each has got this record
 *     stats GROUP                       counts, and times to the last client since the previous stats
 *     stuck GROUP MOST                  tell of clients, so many at most, that miss what reach waits for:
 *                                       how each is connected, and what it has not read yet
 *     close GROUP                       disconnect
 *     nap US                            sleep between rounds, so that the server need not wake this process
 *     churn GROUP CUTS STALLS SECONDS   a second, cut so many clients and let so many read nothing, each for
 *                                       up to so long; those that are cut or ended come back with their last id
 *     coding GROUP NAME                 ask for this content coding, and undo it; not together with churn
 *
 * It knows one coding, for which it is compiled: gzip by -DGZIP and -lz, zstd by
 * -DZSTD and -lzstd. Then each client has a decoder, of some 40 KB (gzip), and
 * each record costs this process some microseconds more.
 *
 * It ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined GZIP
#include <zlib.h>
#elif defined ZSTD
#include <zstd.h>
#endif

enum {
	MARK = '!',
	NUMBER_DIGITS = 8,
	RECORD_DIGITS = NUMBER_DIGITS + 19,
	MAX_CLIENTS = 1 << 16,
	MAX_GROUPS = 8,
	SLOTS = 1 << 16,         /* records under way at a time */
	UNANSWERED = 1000,       /* fewer than what a listener holds back, or SYNs are dropped */
	COME_BACK_MS = 100,      /* how long a client waits that comes back */
	SOURCES = 32,            /* addresses to come from; each has some 28,000 ports */
	STALLING_BUFFER = 8192,  /* of the kernel, so that a client that stalls is felt soon */
};

enum state { CLOSED, HEAD, SIZE, DATA, SKIP, ENDED };

struct client {
	int fd;
	enum state state;
	uint8_t group;
	uint8_t match;           /* of the empty line that ends a head */
	uint8_t held;            /* bytes of a record that the last read ended in */
	char record[RECORD_DIGITS];
	uint8_t in_record;
	uint8_t answered;        /* it has got a block since it connected */
	uint8_t stalled;
	uint32_t left;           /* bytes of the chunk, or of its end */
	uint32_t index;          /* in its group */
	uint32_t last;           /* number of the newest record; 0: none */
	uint32_t id_last;        /* last, when id was current */
	char id[96];
	uint64_t read_at;        /* when it read something */
	uint32_t ended;          /* how often the server ended its response */
	void *decoder;           /* NULL: the response has no coding */
};

struct slot {
	uint32_t number, clients;
	uint64_t made;
};

struct group {
	uint32_t clients, first_client, from;
	char path[512], coding[16];
	int churns;
	double cuts, stalls, stall_seconds, cuts_due, stalls_due;
	uint32_t unopened;       /* that have not got their first block */
	uint64_t open_began;
	uint32_t want, missing;  /* of reach */
	uint64_t want_began;
	uint64_t events, lost, doubled, ended, refused, reconnects, stall_count;
	uint64_t bytes;          /* as they came over the wire, heads included */
	uint64_t uncoded, corrupt; /* responses without the coding; those that it does not decode */
	struct slot *slots;
	float *times;            /* ms to the last client */
	uint32_t time_count, time_cap;
};

static struct client clients[MAX_CLIENTS];
static uint32_t client_count;
static struct group groups[MAX_GROUPS];
static int epoll, port, nap_us, unanswered;

/* Clients that are to be connected, first come, first served. */
static struct { uint32_t client; uint64_t due; } queue[MAX_CLIENTS + 1];
static uint32_t queue_head, queue_tail;

/* Clients that read nothing until then. */
static struct { uint32_t client; uint64_t until; } stalls[MAX_CLIENTS];
static uint32_t stall_count;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static double ms_since(uint64_t began) { return (double)(now_ns() - began) / 1e6; }

static void enqueue(uint32_t client, uint64_t due) {
	queue[queue_tail].client = client;
	queue[queue_tail].due = due;
	queue_tail = (queue_tail + 1) % (MAX_CLIENTS + 1);
}

static void watch(struct client *c, int op, uint32_t events) {
	struct epoll_event e = {.events = events, .data.u32 = (uint32_t)(c - clients)};
	epoll_ctl(epoll, op, c->fd, &e);
}

static void answered(struct client *c) {
	if (c->answered) return;
	c->answered = 1;
	unanswered--;
	struct group *g = &groups[c->group];
	if (g->unopened > 0 && --g->unopened == 0)
		printf("{\"did\":\"open\",\"group\":%u,\"clients\":%u,\"ms\":%.3f}\n", c->group, g->clients, ms_since(g->open_began));
}

static void reached(struct group *g) {
	printf("{\"did\":\"reach\",\"group\":%u,\"ms\":%.3f}\n", (unsigned)(g - groups), ms_since(g->want_began));
	g->want = 0;
}

static void got_data(struct client *c, const char *p, const char *end);

/*
 * A decoder: open_decoder makes one, decode hands on what it makes of bytes and
 * returns 0 when they are no such coding.
 */
#if defined GZIP

static const char *known_coding = "gzip";

static void open_decoder(struct client *c) {
	z_stream *z = calloc(1, sizeof *z);
	if (!z || inflateInit2(z, 16 + MAX_WBITS) != Z_OK) die("inflateInit2");
	c->decoder = z;
}

static void close_decoder(struct client *c) {
	if (!c->decoder) return;
	inflateEnd(c->decoder);
	free(c->decoder);
	c->decoder = NULL;
}

static int decode(struct client *c, const char *p, const char *end) {
	static char out[1 << 16];
	z_stream *z = c->decoder;
	z->next_in = (Bytef *)p;
	z->avail_in = (uInt)(end - p);
	do {
		z->next_out = (Bytef *)out;
		z->avail_out = sizeof out;
		int r = inflate(z, Z_SYNC_FLUSH);
		if (r != Z_OK && r != Z_BUF_ERROR && r != Z_STREAM_END) return 0;
		got_data(c, out, (char *)z->next_out);
		if (r == Z_STREAM_END) inflateReset(z);
	} while (z->avail_in > 0 || z->avail_out == 0);
	return 1;
}

#elif defined ZSTD

static const char *known_coding = "zstd";

static void open_decoder(struct client *c) {
	c->decoder = ZSTD_createDStream();
	if (!c->decoder) die("ZSTD_createDStream");
}

static void close_decoder(struct client *c) {
	if (c->decoder) ZSTD_freeDStream(c->decoder);
	c->decoder = NULL;
}

static int decode(struct client *c, const char *p, const char *end) {
	static char space[1 << 16];
	ZSTD_inBuffer in = {p, (size_t)(end - p), 0};
	ZSTD_outBuffer out;
	do {
		out = (ZSTD_outBuffer){space, sizeof space, 0};
		if (ZSTD_isError(ZSTD_decompressStream(c->decoder, &out, &in))) return 0;
		got_data(c, space, space + out.pos);
	} while (in.pos < in.size || out.pos == out.size);
	return 1;
}

#else

static const char *known_coding = "";

static void open_decoder(struct client *c) { (void)c; }
static void close_decoder(struct client *c) { (void)c; }
static int decode(struct client *c, const char *p, const char *end) {
	(void)c, (void)p, (void)end;
	return 0;
}

#endif

/* disconnect ends a client's connection; it may come back. */
static void disconnect(struct client *c, int comes_back) {
	struct group *g = &groups[c->group];
	close(c->fd);
	close_decoder(c);
	if (!c->answered) unanswered--;
	c->fd = -1;
	c->state = CLOSED;
	if (!comes_back) return;
	g->reconnects++;
	if (g->want && c->last >= g->want && c->id_last < g->want) g->missing++;
	c->last = c->id_last;
	enqueue((uint32_t)(c - clients), now_ns() + COME_BACK_MS * 1000000ull);
}

static void server_ended(struct client *c) {
	struct group *g = &groups[c->group];
	g->ended++;
	c->ended++;
	disconnect(c, g->churns);
}

/* connect_client returns 0 when it could not. */
static void connect_client(struct client *c) {
	struct group *g = &groups[c->group];
	int on = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) die("socket");
	if (g->churns) {
		int size = STALLING_BUFFER;
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	}
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + c->index % SOURCES)};
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

	char request[1024], path[600];
	const char *hole = strstr(g->path, "{i}");
	if (hole)
		snprintf(path, sizeof path, "%.*s%u%s", (int)(hole - g->path), g->path, c->index, hole + 3);
	else
		snprintf(path, sizeof path, "%s", g->path);
	int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s%s%s%s%s%s\r\n", path,
		g->coding[0] ? "Accept-Encoding: " : "", g->coding, g->coding[0] ? "\r\n" : "",
		c->id[0] ? "Last-Event-ID: " : "", c->id, c->id[0] ? "\r\n" : "");
	if (send(c->fd, request, (size_t)n, MSG_NOSIGNAL) != n) die("send");
	c->state = HEAD;
	c->match = c->held = c->in_record = c->answered = c->stalled = 0;
	unanswered++;
	watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void connect_due(void) {
	for (int i = 0; i < 64 && queue_head != queue_tail && unanswered < UNANSWERED; i++) {
		if (queue[queue_head].due && queue[queue_head].due > now_ns()) return;
		uint32_t n = queue[queue_head].client;
		queue_head = (queue_head + 1) % (MAX_CLIENTS + 1);
		connect_client(&clients[n]);
	}
}

static uint64_t digits(const char *p, int n) {
	uint64_t v = 0;
	while (n-- > 0) v = v * 10 + (uint64_t)(*p++ - '0');
	return v;
}

/* got_record is told the digits of one record. */
static void got_record(struct client *c, const char *record) {
	struct group *g = &groups[c->group];
	uint32_t n = (uint32_t)digits(record, NUMBER_DIGITS);
	g->events++;
	if (n <= c->last) {
		g->doubled++;
		return;
	}
	if (c->last)
		g->lost += n - c->last - 1;
	else if (g->from && n > g->from)
		g->lost += n - g->from;
	if (g->want && c->last < g->want && n >= g->want && --g->missing == 0) reached(g);
	c->last = n;

	struct slot *s = &g->slots[n % SLOTS];
	if (s->number != n) {
		if (s->number > n) return; /* it comes late, to one who catches up */
		s->number = n;
		s->clients = 0;
		s->made = digits(record + NUMBER_DIGITS, RECORD_DIGITS - NUMBER_DIGITS);
	}
	if (++s->clients == g->clients && g->clients > 0) {
		if (g->time_count == g->time_cap) {
			g->time_cap = g->time_cap ? 2 * g->time_cap : 1024;
			g->times = realloc(g->times, g->time_cap * sizeof *g->times);
			if (!g->times) die("realloc");
		}
		g->times[g->time_count++] = (float)((double)(clock_ns(CLOCK_REALTIME) - s->made) / 1e6);
	}
}

/* got_data is told bytes of blocks. */
static void got_data(struct client *c, const char *p, const char *end) {
	while (p < end) {
		if (!c->in_record) {
			p = memchr(p, MARK, (size_t)(end - p));
			if (!p) return;
			p++;
			if (end - p >= RECORD_DIGITS) {
				got_record(c, p);
				p += RECORD_DIGITS;
				continue;
			}
			c->in_record = 1;
			c->held = 0;
		}
		size_t take = (size_t)(RECORD_DIGITS - c->held);
		if (take > (size_t)(end - p)) take = (size_t)(end - p);
		memcpy(c->record + c->held, p, take);
		c->held = (uint8_t)(c->held + take);
		p += take;
		if (c->held == RECORD_DIGITS) {
			c->in_record = 0;
			got_record(c, c->record);
		}
	}
}

/* keep_id keeps the event id of what has been read if its last block is whole. */
static void keep_id(struct client *c, const char *p, size_t size) {
	if (size < 8 || memcmp(p + size - 4, "\n\n\r\n", 4) != 0) return;
	const char *end = p + size - 4, *line = memrchr(p, '\n', (size_t)(end - p));
	if (!line || end - line < 6 || memcmp(line, "\nid: ", 5) != 0) return;
	size_t n = (size_t)(end - (line + 5));
	if (n >= sizeof c->id || memchr(line + 1, '\r', (size_t)(end - line - 1))) return;
	memcpy(c->id, line + 5, n);
	c->id[n] = 0;
	c->id_last = c->last;
}

/* parse takes in bytes of a response. */
static void parse(struct client *c, const char *p, const char *end) {
	while (p < end) {
		switch (c->state) {
		case HEAD:
			c->match = *p == "\r\n\r\n"[c->match] ? (uint8_t)(c->match + 1) : *p == '\r';
			p++;
			if (c->match == 4) {
				c->state = SIZE;
				c->left = 0;
			}
			break;
		case SIZE:
			if (*p == '\n')
				c->state = c->left ? DATA : ENDED;
			else if (*p != '\r')
				c->left = c->left * 16 + (uint32_t)(*p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10);
			p++;
			break;
		case DATA: {
			size_t n = (size_t)(end - p) < c->left ? (size_t)(end - p) : c->left;
			answered(c);
			if (!c->decoder) {
				got_data(c, p, p + n);
			} else if (!decode(c, p, p + n)) {
				groups[c->group].corrupt++;
				disconnect(c, 0);
				return;
			}
			p += n;
			c->left -= (uint32_t)n;
			if (c->left == 0) {
				c->state = SKIP;
				c->left = 2;
			}
			break;
		}
		case SKIP:
			p++;
			if (--c->left == 0) c->state = SIZE;
			break;
		default:
			return;
		}
	}
}

/* is_coded tells whether a head has this Content-Encoding. */
static int is_coded(const char *head, size_t size, const char *coding) {
	static const char name[] = "\r\ncontent-encoding:";
	const char *end = memmem(head, size, "\r\n\r\n", 4);
	size_t most = sizeof name - 1 + 1 + strlen(coding);
	for (const char *p = head; end && p + most <= end; p++) {
		if (strncasecmp(p, name, sizeof name - 1) != 0) continue;
		p += sizeof name - 1;
		while (isblank(*p)) p++;
		return strncasecmp(p, coding, strlen(coding)) == 0;
	}
	return 0;
}

static void read_client(struct client *c) {
	static char buf[1 << 18];
	ssize_t n = recv(c->fd, buf, sizeof buf, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN) return;
	if (n <= 0) {
		server_ended(c);
		return;
	}
	struct group *g = &groups[c->group];
	c->read_at = now_ns();
	g->bytes += (uint64_t)n;
	if (c->state == HEAD && c->match == 0) {
		if (n >= 12 && memcmp(buf, "HTTP/1.1 200", 12) != 0) g->refused++;
		if (g->coding[0] && is_coded(buf, (size_t)n, g->coding))
			open_decoder(c);
		else if (g->coding[0])
			g->uncoded++;
	}
	parse(c, buf, buf + n);
	if (g->churns && c->state == SIZE) keep_id(c, buf, (size_t)n);
}

static void stall(struct client *c, double seconds) {
	c->stalled = 1;
	groups[c->group].stall_count++;
	watch(c, EPOLL_CTL_MOD, 0);
	stalls[stall_count].client = (uint32_t)(c - clients);
	stalls[stall_count++].until = now_ns() + (uint64_t)(seconds * 1e9);
}

static void unstall(struct client *c) {
	if (!c->stalled) return;
	c->stalled = 0;
	if (c->fd >= 0) watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

/* churn cuts and stalls what is due since it was called last. */
static void churn(void) {
	static uint64_t before;
	uint64_t now = now_ns();
	double seconds = before ? (double)(now - before) / 1e9 : 0;
	before = now;
	for (uint32_t i = 0; i < stall_count;) {
		if (stalls[i].until > now) {
			i++;
			continue;
		}
		unstall(&clients[stalls[i].client]);
		stalls[i] = stalls[--stall_count];
	}
	for (struct group *g = groups; g < groups + MAX_GROUPS; g++) {
		if (!g->churns || !g->clients) continue;
		g->cuts_due += g->cuts * seconds;
		g->stalls_due += g->stalls * seconds;
		for (; g->cuts_due >= 1; g->cuts_due--) {
			struct client *c = &clients[g->first_client + (uint32_t)random() % g->clients];
			if (c->answered && !c->stalled && c->fd >= 0) disconnect(c, 1);
		}
		for (; g->stalls_due >= 1; g->stalls_due--) {
			struct client *c = &clients[g->first_client + (uint32_t)random() % g->clients];
			if (c->answered && !c->stalled && c->fd >= 0) stall(c, g->stall_seconds * (double)random() / RAND_MAX);
		}
	}
}

static void open_group(struct group *g, uint32_t n, const char *path, const char *id) {
	if (client_count + n > MAX_CLIENTS) die("too many clients");
	g->clients = g->unopened = n;
	g->first_client = client_count;
	g->open_began = now_ns();
	snprintf(g->path, sizeof g->path, "%s", path);
	if (!g->slots) g->slots = calloc(SLOTS, sizeof *g->slots);
	for (uint32_t i = 0; i < n; i++) {
		struct client *c = &clients[client_count];
		c->group = (uint8_t)(g - groups);
		c->index = i;
		snprintf(c->id, sizeof c->id, "%s", id);
		enqueue(client_count++, 0);
	}
}

static void reach(struct group *g, uint32_t number) {
	g->want = number;
	g->want_began = now_ns();
	g->missing = 0;
	for (uint32_t i = 0; i < g->clients; i++) g->missing += clients[g->first_client + i].last < number;
	if (g->missing == 0) reached(g);
}

static int compare_floats(const void *a, const void *b) {
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void print_stats(struct group *g) {
	uint32_t n = g->time_count, connected = 0;
	if (n > 0) qsort(g->times, n, sizeof *g->times, compare_floats);
	for (uint32_t i = 0; i < g->clients; i++) {
		struct client *c = &clients[g->first_client + i];
		connected += c->fd >= 0 && c->answered;
	}
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	printf("{\"did\":\"stats\",\"group\":%u,\"connected\":%u,\"events\":%llu,\"lost\":%llu,\"doubled\":%llu,\"ended\":%llu,"
	       "\"refused\":%llu,\"reconnects\":%llu,\"stalls\":%llu,\"bytes\":%llu,\"uncoded\":%llu,\"corrupt\":%llu,\"times\":%u,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"cpu\":%.3f}\n",
		(unsigned)(g - groups), connected, (unsigned long long)g->events, (unsigned long long)g->lost, (unsigned long long)g->doubled,
		(unsigned long long)g->ended, (unsigned long long)g->refused, (unsigned long long)g->reconnects, (unsigned long long)g->stall_count,
		(unsigned long long)g->bytes, (unsigned long long)g->uncoded, (unsigned long long)g->corrupt,
		n, n ? g->times[n / 2] : 0, n ? g->times[n - 1 - n / 100] : 0, n ? g->times[n - 1] : 0,
		(double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
	g->time_count = 0;
}

/* print_stuck tells of clients that miss what reach waits for. */
static void print_stuck(struct group *g, unsigned most) {
	printf("{\"did\":\"stuck\",\"group\":%u,\"missing\":%u,\"stuck\":[", (unsigned)(g - groups), g->want ? g->missing : 0);
	const char *comma = "";
	for (uint32_t i = 0; g->want && i < g->clients && most > 0; i++) {
		struct client *c = &clients[g->first_client + i];
		if (c->last >= g->want) continue;
		most--;
		const char *how = c->fd < 0 ? g->churns ? "to come back" : "gone" : !c->answered ? "not answered" : c->stalled ? "stalled" : "connected";
		struct sockaddr_in at = {0};
		socklen_t size = sizeof at;
		int unread = 0;
		if (c->fd >= 0) {
			getsockname(c->fd, (struct sockaddr *)&at, &size);
			ioctl(c->fd, FIONREAD, &unread);
		}
		char address[INET_ADDRSTRLEN] = "";
		inet_ntop(AF_INET, &at.sin_addr, address, sizeof address);
		printf("%s{\"index\":%u,\"how\":\"%s\",\"address\":\"%s:%u\",\"last\":%u,\"unread\":%d,\"silent\":%.3f,\"ended\":%u}", comma,
			i, how, address, ntohs(at.sin_port), c->last, unread, c->read_at ? ms_since(c->read_at) / 1000 : -1, c->ended);
		comma = ",";
	}
	printf("]}\n");
}

static void close_group(struct group *g) {
	for (uint32_t i = 0; i < g->clients; i++) {
		struct client *c = &clients[g->first_client + i];
		if (c->fd >= 0) disconnect(c, 0);
	}
	printf("{\"did\":\"close\",\"group\":%u}\n", (unsigned)(g - groups));
	g->clients = g->churns = 0;
}

static void obey_line(const char *line) {
	char path[512], id[96] = "";
	unsigned group, n;
	double cuts, stalls_per_second, seconds;
	if (sscanf(line, "nap %d", &nap_us) == 1) return;
	if (sscanf(line, "%*s %u", &group) != 1 || group >= MAX_GROUPS) {
		fprintf(stderr, "unknown command: %s\n", line);
		exit(1);
	}
	struct group *g = &groups[group];
	if (sscanf(line, "open %*u %u %511s %95s", &n, path, id) >= 2) {
		open_group(g, n, path, id);
	} else if (sscanf(line, "from %*u %u", &n) == 1) {
		g->from = n;
		printf("{\"did\":\"from\",\"group\":%u}\n", group);
	} else if (sscanf(line, "reach %*u %u", &n) == 1) {
		reach(g, n);
	} else if (sscanf(line, "churn %*u %lf %lf %lf", &cuts, &stalls_per_second, &seconds) == 3) {
		g->churns = 1;
		g->cuts = cuts;
		g->stalls = stalls_per_second;
		g->stall_seconds = seconds;
	} else if (sscanf(line, "coding %*u %15s", g->coding) == 1) {
		if (strcmp(g->coding, known_coding) != 0 || g->churns) {
			fprintf(stderr, "cannot do: %s\n", line);
			exit(1);
		}
	} else if (sscanf(line, "stuck %*u %u", &n) == 1) {
		print_stuck(g, n);
	} else if (strncmp(line, "stats ", 6) == 0) {
		print_stats(g);
	} else if (strncmp(line, "close ", 6) == 0) {
		close_group(g);
	} else {
		fprintf(stderr, "unknown command: %s\n", line);
		exit(1);
	}
}

/* obey reads commands; it returns 0 at their end. */
static int obey(void) {
	static char line[4096];
	static size_t have;
	ssize_t n = read(0, line + have, sizeof line - have);
	if (n <= 0) return 0;
	have += (size_t)n;
	for (char *end; (end = memchr(line, '\n', have));) {
		*end = 0;
		obey_line(line);
		have -= (size_t)(end + 1 - line);
		memmove(line, end + 1, have);
	}
	return 1;
}

int main(int argc, char **argv) {
	if (argc != 2 || (port = atoi(argv[1])) == 0) {
		fprintf(stderr, "usage: load PORT\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint32_t i = 0; i < MAX_CLIENTS; i++) clients[i].fd = -1;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event input = {.events = EPOLLIN, .data.u32 = MAX_CLIENTS};
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input)) die("epoll");
	for (;;) {
		struct epoll_event events[512];
		connect_due();
		churn();
		int busy = queue_head != queue_tail && unanswered < UNANSWERED && !queue[queue_head].due;
		int n = epoll_wait(epoll, events, 512, busy ? 0 : queue_head != queue_tail || stall_count ? 5 : 50);
		for (int i = 0; i < n; i++) {
			uint32_t at = events[i].data.u32;
			if (at == MAX_CLIENTS) {
				if (!obey()) return 0;
				continue;
			}
			struct client *c = &clients[at];
			unstall(c); /* it is told only of its end */
			if (c->fd >= 0) read_client(c);
		}
		if (nap_us && !busy) usleep((useconds_t)nap_us);
	}
}
