// Mapcache leaks: a cache whose keys never repeat and that nothing is removed from. It also makes garbage, far more
// than it leaks: what allocates most is not what leaks.
package main

import (
	"fmt"
	"strconv"

	"outlive/workloads/conversation"
)

type result struct {
	id      int
	name    string
	payload []byte
	tags    []string
}

var cache = map[string]*result{}

//go:noinline
func render(id int) *result {
	return &result{
		id:      id,
		name:    fmt.Sprintf("request-%d", id),
		payload: make([]byte, 2048), // SITE payload
		tags:    []string{"a", strconv.Itoa(id)},
	}
}

//go:noinline
func lookup(id int) *result {
	key := "key:" + strconv.Itoa(id)
	if found, ok := cache[key]; ok {
		return found
	}
	made := render(id)
	cache[key] = made // SITE cache
	return made
}

var last []byte

//go:noinline
func scratch(size int) {
	last = make([]byte, 16384+size%100) // SITE scratch
}

func handle(id int) {
	found := lookup(id)
	for i := 0; i < 4; i++ {
		scratch(len(found.payload) + i)
	}
}

func main() {
	conversation.Hold(handle, func() int { return len(cache) })
}
