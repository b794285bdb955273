// Package conversation is how a Go workload speaks with its test, a line at a time. The start is that of
// c/protocol.h; a Go program stays at work for as long as the test wants it to.
//
//	workload: ready                   nothing was done yet
//	test:     go 1000
//	workload: {"steps":1000,"held":7} what it did in all, and how much it holds by its own count
//	test:     collect
//	workload: {"collections":2}       the garbage collector ran once more; its profile is published
//	test:     collector -1
//	workload: {"was":100}             it collects by itself when the heap has grown by so many percent; -1 for never
//	test:     endpoint
//	workload: {"port":40001}          of net/http/pprof on 127.0.0.1; 0 when built without the tag pprof
//	test:     exit
//
// Between its lines a workload is idle. When the test goes away (end of input) so does the workload.
package conversation

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

const badConversation = 98

// Hold speaks until the test is done. For each step that the test asks for it calls step with the step's number,
// counted from the start of the program; held tells how much the program holds.
func Hold(step func(number int), held func() int) {
	port := serveProfiles()
	steps := 0
	say("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, argument, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "go":
			for end := steps + number(argument); steps < end; steps++ {
				step(steps)
			}
			say(`{"steps":%d,"held":%d}`, steps, held())
		case "collect":
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			say(`{"collections":%d}`, stats.NumGC)
		case "collector":
			say(`{"was":%d}`, debug.SetGCPercent(number(argument)))
		case "endpoint":
			say(`{"port":%d}`, port)
		case "exit":
			os.Exit(0)
		default:
			os.Exit(badConversation)
		}
	}
	os.Exit(badConversation)
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		os.Exit(badConversation)
	}
	return number
}

func say(format string, arguments ...any) {
	if _, err := fmt.Printf(format+"\n", arguments...); err != nil {
		os.Exit(badConversation)
	}
}
