// Shapes leaks in every shape of function: generic, closure, method value, method of an embedded struct behind an
// interface, deferred, inlined, of another goroutine, at initialisation.
package main

import "outlive/workloads/conversation"

const size = 8192

type block [size]byte

var early = makeEarly()

var kept []any

func keep(made any) { kept = append(kept, made) }

func makeEarly() []*block {
	made := make([]*block, 64)
	for i := range made {
		made[i] = new(block) // SITE early
	}
	return made
}

//go:noinline
func generic[T any]() *T {
	return new(T) // SITE generic
}

type pair[K comparable, V any] struct {
	key   K
	value *V
}

//go:noinline
func (p *pair[K, V]) fill(key K) {
	p.key, p.value = key, new(V) // SITE generic_method
}

type maker interface{ make() *block }

type base struct{ made int }

//go:noinline
func (b *base) make() *block {
	b.made++
	return new(block) // SITE method
}

type derived struct{ base }

func innermost() *block { return new(block) } // SITE innermost

func middle() *block { return innermost() }

//go:noinline
func outermost() *block { return middle() }

//go:noinline
func deferred() {
	defer func() {
		keep(new(block)) // SITE deferred
	}()
}

func step(number int) {
	keep(generic[block]())
	keep(generic[[2]block]())
	var filled pair[string, block]
	filled.fill("key")
	keep(filled.value)
	var made maker = &derived{}
	keep(made.make())
	value := made.make
	keep(value())
	keep(outermost())
	deferred()
	closure := func() *block {
		number++
		return new(block) // SITE closure
	}
	keep(closure())
	done := make(chan *block)
	go func() {
		done <- new(block) // SITE goroutine
	}()
	keep(<-done)
}

func main() {
	conversation.Hold(step, func() int { return len(early) + len(kept) })
}
