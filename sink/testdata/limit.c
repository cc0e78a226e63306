/*
 * limit is the least that a server of event streams can do: it writes the same
 * bytes to all its clients, by one send(2) each, from one thread, and does
 * nothing else. What it takes is what the kernel takes; benchmarks compare
 * against it.
 *
 *     limit HEAD BLOCK
 *
 * Files: HEAD is the response up to the first record, BLOCK one record's chunk
 * as it goes over the wire. Both are copied from the server that is compared
 * with. BLOCK holds a mark, which is followed by the digits of the record's
 * number and of its time (see load.c); they are written anew in each record.
 *
 * It prints its port, obeys commands on standard input, one a line, and prints
 * "done" when one is carried out:
 *
 *     send COUNT FIRST      write COUNT records, numbered from FIRST, to every client
 *     backlog COUNT FIRST   from now on, write so many behind each new client's head,
 *                           and behind them what has been sent since
 *
 * It ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = '!', NUMBER_DIGITS = 8, TIME_DIGITS = 19, MAX_FD = 1 << 16 };

/* How far a client's request has been read; it ends with an empty line. */
enum { NO_CLIENT = -2, SERVED = -1 }; /* or the bytes of "\r\n\r\n" that have come */

static signed char state[MAX_FD];
static int clients[MAX_FD], client_count;

static char *head, *block, *records, *backlog;
static size_t head_size, block_size, records_cap, backlog_size;

static void die(const char *what) {
	perror(what);
	exit(1);
}

static char *read_file(const char *name, size_t *size) {
	FILE *f = fopen(name, "rb");
	if (!f) die(name);
	char *text = malloc(1 << 20);
	*size = fread(text, 1, 1 << 20, f);
	fclose(f);
	return text;
}

static void put_digits(char *to, unsigned long long n, int digits) {
	while (digits-- > 0) {
		to[digits] = (char)('0' + n % 10);
		n /= 10;
	}
}

/* make_records fills into, which grows as needed, with count records. */
static size_t make_records(char **into, size_t *cap, int count, unsigned long long first) {
	size_t size = block_size * (size_t)count;
	if (*cap < size) {
		*cap = size;
		*into = realloc(*into, size);
		if (!*into) die("realloc");
	}
	size_t mark = (size_t)((char *)memchr(block, MARK, block_size) - block) + 1;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	for (int i = 0; i < count; i++) {
		char *b = *into + block_size * (size_t)i;
		memcpy(b, block, block_size);
		put_digits(b + mark, first + (unsigned long long)i, NUMBER_DIGITS);
		put_digits(b + mark + NUMBER_DIGITS, (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec, TIME_DIGITS);
	}
	return size;
}

/* write_all returns 0 if the client has gone. */
static int write_all(int fd, const char *p, size_t size) {
	while (size > 0) {
		ssize_t n = send(fd, p, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd w = {.fd = fd, .events = POLLOUT};
			poll(&w, 1, -1);
			continue;
		}
		if (n < 0) return 0;
		p += n;
		size -= (size_t)n;
	}
	return 1;
}

static void drop(int fd) {
	if (state[fd] == SERVED) {
		for (int i = 0; i < client_count; i++) {
			if (clients[i] == fd) {
				clients[i] = clients[--client_count];
				break;
			}
		}
	}
	state[fd] = NO_CLIENT;
	close(fd);
}

static void send_records(int count, unsigned long long first) {
	size_t size = make_records(&records, &records_cap, count, first);
	for (int i = 0; i < client_count; i++) write_all(clients[i], records, size);
	if (!backlog) return;
	backlog = realloc(backlog, backlog_size + size);
	if (!backlog) die("realloc");
	memcpy(backlog + backlog_size, records, size);
	backlog_size += size;
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
		int count;
		unsigned long long first;
		if (sscanf(line, "send %d %llu", &count, &first) == 2) {
			send_records(count, first);
		} else if (sscanf(line, "backlog %d %llu", &count, &first) == 2) {
			size_t cap = 0;
			backlog = NULL;
			backlog_size = make_records(&backlog, &cap, count, first);
		} else {
			fprintf(stderr, "unknown command: %s\n", line);
			exit(1);
		}
		puts("done");
		have -= (size_t)(end + 1 - line);
		memmove(line, end + 1, have);
	}
	return 1;
}

static void accept_all(int listener, int epoll) {
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) return;
		if (fd >= MAX_FD) die("too many clients");
		int on = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		state[fd] = 0;
		struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
	}
}

/* read_request answers a request once it is whole. */
static void read_request(int fd) {
	char buf[4096];
	ssize_t n = recv(fd, buf, sizeof buf, 0);
	if (n < 0 && errno == EAGAIN) return;
	if (n <= 0) {
		drop(fd);
		return;
	}
	for (ssize_t i = 0; i < n && state[fd] >= 0; i++) {
		state[fd] = buf[i] == "\r\n\r\n"[(int)state[fd]] ? state[fd] + 1 : buf[i] == '\r';
		if (state[fd] < 4) continue;
		state[fd] = SERVED;
		clients[client_count++] = fd;
		if (!write_all(fd, head, head_size) || !write_all(fd, backlog, backlog_size)) drop(fd);
	}
}

int main(int argc, char **argv) {
	if (argc != 3) {
		fprintf(stderr, "usage: limit HEAD BLOCK\n");
		return 2;
	}
	head = read_file(argv[1], &head_size);
	block = read_file(argv[2], &block_size);
	char *mark = memchr(block, MARK, block_size);
	if (!mark || (size_t)(block + block_size - mark) <= NUMBER_DIGITS + TIME_DIGITS) {
		fprintf(stderr, "%s has no mark with digits behind it\n", argv[2]);
		return 1;
	}
	memset(state, NO_CLIENT, sizeof state);
	setvbuf(stdout, NULL, _IOLBF, 0);

	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t at_size = sizeof at;
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) die("listen");
	getsockname(listener, (struct sockaddr *)&at, &at_size);
	printf("%d\n", ntohs(at.sin_port));

	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
	e.data.fd = 0;
	epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e);
	for (;;) {
		struct epoll_event events[256];
		int n = epoll_wait(epoll, events, 256, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == 0) {
				if (!obey()) return 0;
			} else if (fd == listener) {
				accept_all(listener, epoll);
			} else if (state[fd] != NO_CLIENT) {
				read_request(fd);
			}
		}
	}
}
