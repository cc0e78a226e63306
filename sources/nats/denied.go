package nats

import (
	"fmt"
	"strings"
	"sync"

	"github.com/ssebridge/ssebridge/bridge"
)

// PermissionError reports a request that the server refused. It wraps
// [bridge.ErrUnavailable], because the permission may be granted any time.
//
// A refusal is not an answer to the request, which just times out: the server
// tells it on the side, naming the subject.
type PermissionError struct {
	Operation string // publish or subscribe
	Subject   string // to which it is not allowed
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("permission denied: allow the account to %s to %q", e.Operation, e.Subject)
}

// Unwrap returns [bridge.ErrUnavailable].
func (e *PermissionError) Unwrap() error { return bridge.ErrUnavailable }

// denials hands refusals to the requests they belong to. The zero value is ready.
type denials struct {
	mu      sync.Mutex
	next    int
	waiting map[int]denialWait
	inbox   error // subscriptions are refused once, when they are made, but answers miss them for ever
}

type denialWait struct {
	subject string
	denied  func(error)
}

// wait calls denied, once or more, when publishing to subject is refused, or
// any subscription: without those no answer ever arrives. stop ends it.
func (d *denials) wait(subject string, denied func(error)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[int]denialWait{}
	}
	id := d.next
	d.next++
	d.waiting[id] = denialWait{subject, denied}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, id)
	}
}

// add takes a refusal as the library words it: … Permissions Violation for
// Publish to "subject", or for Subscription to "subject".
func (d *denials) add(violation error) {
	_, text, found := strings.Cut(violation.Error(), "ermissions Violation for ")
	what, rest, quoted := strings.Cut(text, `"`)
	subject, _, ended := strings.Cut(rest, `"`)
	if !found || !quoted || !ended {
		return
	}
	err := &PermissionError{Operation: "publish", Subject: subject}
	if strings.HasPrefix(what, "Subscription") {
		err.Operation = "subscribe"
	}
	d.mu.Lock()
	if err.Operation == "subscribe" {
		d.inbox = err
	}
	var denied []func(error)
	for _, w := range d.waiting {
		if err.Operation == "subscribe" || w.subject == subject {
			denied = append(denied, w.denied)
		}
	}
	d.mu.Unlock()
	for _, f := range denied {
		f(err)
	}
}

// lasting returns the refusal that keeps any answer from arriving, if there is one.
func (d *denials) lasting() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inbox
}

// clear forgets: a new connection may have other permissions.
func (d *denials) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inbox = nil
}
