// Torture checks itself while it works: in each step goroutines on all processors allocate, grow their stacks, panic and recover, and
// compute what is known beforehand. What it holds is the number of steps that came out right; a wrong one ends it.
package main

import (
	"fmt"
	"os"
	"runtime"

	"outlive/workloads/conversation"
)

// next is a step of a linear congruential generator.
func next(seed uint64) uint64 { return seed*6364136223846793005 + 1442695040888963407 }

// allocate fills blocks of many sizes, and says what is in them and what should be.
func allocate(seed uint64) (is, should uint64) {
	blocks := make(map[uint64][]byte)
	for range [48]struct{}{} {
		seed = next(seed)
		size := 16 + seed>>40%4096
		block := make([]byte, size)
		for i := range block {
			block[i] = byte(seed >> 56)
		}
		blocks[seed] = block
		should += size * (seed >> 56)
	}
	for _, block := range blocks {
		for _, one := range block {
			is += uint64(one)
		}
	}
	return is, should
}

// descend needs a stack that grows: it is copied, with what a probe left on it.
func descend(depth int, seed uint64) uint64 {
	if depth == 0 {
		return seed
	}
	var frame [24]uint64
	for i := range frame {
		frame[i] = next(seed)
	}
	return descend(depth-1, frame[depth%len(frame)])
}

func fail(seed uint64) (caught uint64) {
	defer func() { caught = recover().(uint64) }()
	panic(seed)
}

func work(seed uint64, results chan<- error) {
	if is, should := allocate(seed); is != should {
		results <- fmt.Errorf("blocks have %d, not %d", is, should)
		return
	}
	depth := 50 + int(seed%400)
	should := seed
	for range make([]struct{}, depth) {
		should = next(should)
	}
	if is := descend(depth, seed); is != should {
		results <- fmt.Errorf("a recursion gave %d, not %d", is, should)
		return
	}
	if is := fail(seed); is != seed {
		results <- fmt.Errorf("a panic carried %d, not %d", is, seed)
		return
	}
	results <- nil
}

func main() {
	right := 0
	step := func(number int) {
		workers := 2 * runtime.GOMAXPROCS(0)
		results := make(chan error)
		for worker := 0; worker < workers; worker++ {
			go work(next(uint64(number*workers+worker)), results)
		}
		for worker := 0; worker < workers; worker++ {
			if err := <-results; err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(3)
			}
		}
		right++
	}
	conversation.Hold(step, func() int { return right })
}
