// Stuck leaves goroutines behind that can never run again, and beside each kind some that only look like it: something
// that can still run has their channel, at the end of whatever path. What it holds is the number of the former. With
// WORKLOAD_BUSY set it is never at rest.
package main

import (
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"outlive/workloads/conversation"
)

const later = time.Hour

var (
	kept  []chan int
	never chan int
	lock  sync.Mutex
)

// never again: as many as there are sites marked below.
const stuckInStep = 8

//go:noinline
func stuck() {
	sent, received, first, second := make(chan int), make(chan int), make(chan int), make(chan int)
	go func() { // SITE sender
		sent <- 1
	}()
	go func() { // SITE receiver
		for range received {
		}
	}()
	go func() { // SITE selecting
		select {
		case <-first:
		case second <- 1:
		}
	}()
	go func() { // SITE nil_channel
		<-never
	}()
	go func() { // SITE no_cases
		select {}
	}()
	outer, middle, inner := make(chan int), make(chan chan int, 1), make(chan int)
	middle <- inner
	go func() { // SITE outer
		<-outer
		close(inner)
	}()
	go func() { // SITE inner
		<-inner
		close(outer)
	}()
	go func() { // SITE buffered
		full := make(chan int, 1)
		full <- 1
		full <- 2
	}()
}

type box struct {
	channel chan int
	padding [64]byte
}

//go:noinline
func waiting(root context.Context) {
	global := make(chan int)
	kept = append(kept, global)
	go func() { // SITE of_global
		<-global
	}()
	timed := make(chan int)
	time.AfterFunc(later, func() { close(timed) })
	go func() { // SITE of_timer
		<-timed
	}()
	lost := make(chan int)
	go func() { // SITE with_timeout
		select {
		case <-lost:
		case <-time.After(later):
		}
	}()
	slept := make(chan int)
	go func() { // SITE sleeper
		time.Sleep(later)
		close(slept)
	}()
	go func() { // SITE of_sleeper
		<-slept
	}()
	locked := make(chan int)
	go func() { // SITE locker
		lock.Lock()
		close(locked)
	}()
	go func() { // SITE of_locker
		<-locked
	}()
	finalized := &box{channel: make(chan int)}
	channel := finalized.channel
	runtime.SetFinalizer(finalized, func(dying *box) { close(dying.channel) })
	go func() { // SITE of_finalizer
		<-channel
	}()
	derived, cancel := context.WithCancel(root)
	_ = cancel
	go func() { // SITE of_context
		<-derived.Done()
	}()
	// A chain: who waits for the first link holds the second one, and so on.
	links := make(chan int)
	kept = append(kept, links)
	for i := 0; i < 3; i++ {
		next := make(chan int)
		go func(own, next chan int) { // SITE chained
			<-own
			close(next)
		}(links, next)
		links = next
	}
	weakly()
}

//go:noinline
func scrub(depth int) int {
	var zero [512]byte
	if depth > 0 {
		zero[depth] = byte(scrub(depth - 1))
	}
	return int(zero[depth])
}

// deep calls from far down the stack, where goroutines that only wait never come.
//
//go:noinline
func deep(depth int, call func()) int {
	var pad [512]byte
	if depth > 0 {
		pad[depth] = byte(deep(depth-1, call))
	} else {
		call()
	}
	return int(pad[depth])
}

func main() {
	root, stop := context.WithCancel(context.Background())
	defer stop()
	lock.Lock()
	if os.Getenv("WORKLOAD_BUSY") != "" {
		go func() {
			for {
				runtime.Gosched()
			}
		}()
	}
	held := 0
	step := func(int) {
		// What was on a stack is still there when its memory is another goroutine's. So the stack grows before it has
		// channels, has them far down only, and loses them.
		var made sync.WaitGroup
		made.Add(1)
		go func() {
			defer made.Done()
			scrub(24)
			deep(8, func() {
				stuck()
				waiting(root)
			})
			scrub(24)
		}()
		made.Wait()
		held += stuckInStep
	}
	conversation.Hold(step, func() int { return held })
}
