// Cgo leaks on both sides: blocks of the Go heap, and blocks of C's malloc, one of each in a step.
package main

/*
#include <stdlib.h>
#include <string.h>

static void *taken[1 << 20];
static size_t count;

static int take(size_t size) {
	if (count == sizeof taken / sizeof *taken) return 0;
	taken[count] = malloc(size); // SITE c_block
	if (!taken[count]) return 0;
	memset(taken[count], 1, size);
	count++;
	return 1;
}
*/
import "C"

import "outlive/workloads/conversation"

var kept [][]byte

//go:noinline
func step(int) {
	kept = append(kept, make([]byte, 4096)) // SITE go_block
	if C.take(2048) == 0 {
		panic("no memory")
	}
}

func main() {
	conversation.Hold(step, func() int { return 2 * len(kept) })
}
