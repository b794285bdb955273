// Lru does not leak: a cache that grows to its bound and stays there while much goes through it.
package main

import (
	"container/list"
	"strconv"

	"outlive/workloads/conversation"
)

const bound = 2000

type entry struct {
	key   string
	value []byte
}

type lru struct {
	order   *list.List
	entries map[string]*list.Element
}

func (c *lru) get(key string) []byte {
	found, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(found)
	return found.Value.(*entry).value
}

//go:noinline
func (c *lru) put(key string, value []byte) {
	c.entries[key] = c.order.PushFront(&entry{key, value})
	if c.order.Len() > bound {
		oldest := c.order.Remove(c.order.Back()).(*entry)
		delete(c.entries, oldest.key)
	}
}

//go:noinline
func load() []byte {
	return make([]byte, 4096) // SITE value
}

func main() {
	cache := &lru{order: list.New(), entries: map[string]*list.Element{}}
	step := func(number int) {
		key := strconv.Itoa(number % (5 * bound))
		if cache.get(key) == nil {
			cache.put(key, load())
		}
	}
	conversation.Hold(step, func() int { return cache.order.Len() })
}
