// Churn allocates without pause, as a busy service does at worst: a request makes records of several sizes, strings and a map, and
// a table of the last hundred thousand requests keeps them for a while.
//
// Each line on standard input starts one window of 400,000 requests, and is answered by one line: nanoseconds of processor time of
// the whole process, its garbage collector included, for one request. Each window begins with a collected heap. Between windows it sleeps, so that a tracer can come and go.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

const (
	kept    = 100_000
	window  = 400_000
	longest = 2048
)

type request struct {
	id      int
	path    string
	headers map[string]string
	body    []byte
	next    *request
}

var last [kept]*request

//go:noinline
func serve(id int) *request {
	path := "/item/" + strconv.Itoa(id)
	made := &request{id: id, path: path, body: make([]byte, 64+id*37%longest)}
	made.headers = map[string]string{"path": path, "id": strconv.Itoa(id)}
	made.next = &request{id: -id}
	return made
}

func spentNs() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fmt.Fprintln(os.Stderr, "churn:", err)
		os.Exit(1)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func main() {
	// With more, the collector takes what is idle, and how much that is varies more than what is measured.
	runtime.GOMAXPROCS(1)
	// Traps are counted in the first thread only.
	runtime.LockOSThread()
	// The linker turns the profiler off in a program that has no use for profiles.
	runtime.MemProfile(nil, false)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		runtime.GC()
		start := spentNs()
		for id := 0; id < window; id++ {
			last[id%kept] = serve(id)
		}
		fmt.Println(float64(spentNs()-start) / window)
	}
}
