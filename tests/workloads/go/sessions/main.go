// Sessions leaks: a store behind an interface, whose Logout forgets the sessions that were upgraded, one in four.
package main

import (
	"fmt"
	"sync"

	"outlive/workloads/conversation"
)

type session struct {
	id         uint64
	user       string
	history    [][]byte
	attributes map[string]any
	upgraded   bool
}

type store interface {
	login(id uint64) *session
	logout(id uint64)
}

type memoryStore struct {
	lock     sync.Mutex
	sessions map[uint64]*session
}

//go:noinline
func newSession(id uint64) *session {
	attributes := map[string]any{"address": "192.0.2.1", "number": int(id)}
	user := fmt.Sprint("user", id)
	return &session{id: id, user: user, attributes: attributes} // SITE session
}

func (s *memoryStore) login(id uint64) *session {
	made := newSession(id)
	s.lock.Lock()
	defer s.lock.Unlock()
	s.sessions[id] = made
	return made
}

func (s *memoryStore) logout(id uint64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if found := s.sessions[id]; found != nil && !found.upgraded {
		delete(s.sessions, id)
	}
}

func (s *session) touch() {
	s.history = append(s.history, make([]byte, 512)) // SITE history
}

var memory = &memoryStore{sessions: map[uint64]*session{}}
var all store = memory

func serve(number int) {
	id := uint64(number)
	made := all.login(id)
	for i := 0; i < 5; i++ {
		made.touch()
	}
	made.upgraded = id%4 == 0
	all.logout(id)
}

func main() {
	conversation.Hold(serve, func() int { return len(memory.sessions) })
}
