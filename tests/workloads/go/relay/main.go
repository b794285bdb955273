// Relay leaks nothing: its goroutines wait for answers whose channels are always on their way, from hand to hand, over
// channels, lists and maps. Each is woken sooner or later, and the program is never at rest while it works.
package main

import (
	"runtime"
	"sync"

	"outlive/workloads/conversation"
)

const (
	hands   = 4
	waiters = 64
	passes  = 400_000
)

type request struct {
	answer chan int
	passed int
	next   *request
}

// A queue is a linked list, so that requests are in the heap too, and never twice in the same place.
type queue struct {
	lock        sync.Mutex
	first, last *request
}

func (q *queue) put(r *request) {
	q.lock.Lock()
	defer q.lock.Unlock()
	r.next = nil
	if q.last == nil {
		q.first = r
	} else {
		q.last.next = r
	}
	q.last = r
}

func (q *queue) take() *request {
	q.lock.Lock()
	defer q.lock.Unlock()
	r := q.first
	if r == nil {
		return nil
	}
	q.first = r.next
	if q.first == nil {
		q.last = nil
	}
	return r
}

// pass carries requests on until each has been passed often enough, and then answers.
func pass(from, to *queue, over chan *request, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case r := <-over:
			r.passed++
			from.put(r)
		default:
		}
		r := from.take()
		if r == nil {
			runtime.Gosched()
			continue
		}
		if r.passed++; r.passed >= passes {
			r.answer <- r.passed
			continue
		}
		select {
		case over <- r:
		default:
			to.put(r)
		}
	}
}

func ask(first *queue, answered *sync.WaitGroup) {
	defer answered.Done()
	r := &request{answer: make(chan int)}
	first.put(r)
	answer := r.answer
	r = nil
	<-answer // SITE answer
}

func main() {
	step := func(int) {
		queues := [hands]*queue{}
		for i := range queues {
			queues[i] = &queue{}
		}
		done, over := make(chan struct{}), make(chan *request, 1)
		for i := range queues {
			go pass(queues[i], queues[(i+1)%hands], over, done) // SITE hand
		}
		var answered sync.WaitGroup
		answered.Add(waiters)
		for i := 0; i < waiters; i++ {
			go ask(queues[i%hands], &answered) // SITE asker
		}
		answered.Wait()
		close(done)
	}
	conversation.Hold(step, func() int { return 0 })
}
