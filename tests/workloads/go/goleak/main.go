// Goleak leaks goroutines: watchers of a context that one path forgets to cancel, and senders whose receiver left.
// What it holds is the number of goroutines that never end.
package main

import (
	"context"
	"errors"

	"outlive/workloads/conversation"
)

type request struct {
	id     int
	buffer []byte
}

func watch(ctx context.Context, watched *request, cancelled chan<- struct{}) {
	<-ctx.Done() // SITE watching
	watched.buffer = nil
	cancelled <- struct{}{}
}

// serve forgets to cancel nine contexts of ten.
//
//go:noinline
func serve(parent context.Context, id int) (isLeaked bool) {
	ctx, cancel := context.WithCancel(parent)
	cancelled := make(chan struct{})
	watched := &request{id: id, buffer: make([]byte, 4096)} // SITE request
	go watch(ctx, watched, cancelled)                       // SITE watcher
	if id%10 != 0 {
		_ = cancel
		return true
	}
	cancel()
	<-cancelled
	return false
}

var errDeadline = errors.New("deadline")

// query leaves before its answer comes one time in five.
//
//go:noinline
func query(id int) (byte, error) {
	answers := make(chan byte)
	go func() { // SITE sender
		answer := make([]byte, 1024)
		answer[0] = byte(id)
		answers <- answer[0] // SITE sending
	}()
	if id%5 == 0 {
		return 0, errDeadline
	}
	return <-answers, nil
}

func main() {
	root, stop := context.WithCancel(context.Background())
	defer stop()
	leaked := 0
	step := func(number int) {
		if serve(root, number) {
			leaked++
		}
		if _, err := query(number); err != nil {
			leaked++
		}
	}
	conversation.Hold(step, func() int { return leaked })
}
