// Deep leaks at the bottom of recursions: of 20 calls, of 60, which is more than runtimes before 1.23 keep of a
// stack, and of 200, which is more than any keeps.
package main

import "outlive/workloads/conversation"

var kept [][]byte

func allocate(size int) []byte {
	return make([]byte, size) // SITE block
}

//go:noinline
func descend(calls, size int) {
	if calls == 0 {
		kept = append(kept, allocate(size))
		return
	}
	descend(calls-1, size)
}

func main() {
	step := func(int) {
		descend(20, 4096)
		descend(60, 8192)
		descend(200, 16384)
	}
	conversation.Hold(step, func() int { return len(kept) })
}
