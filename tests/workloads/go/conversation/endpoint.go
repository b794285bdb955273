//go:build pprof

package conversation

import (
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
)

// The rate at which the runtime samples, other than its default. It has to be set before anything is allocated, and
// GODEBUG's own memprofilerate has no effect before Go 1.20.
func init() {
	if rate := os.Getenv("WORKLOAD_PROFILE_RATE"); rate != "" {
		runtime.MemProfileRate = number(rate)
	}
}

// serveProfiles serves the program's own profiles on a port that is free, and gives it.
func serveProfiles() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(badConversation)
	}
	go http.Serve(listener, nil)
	return listener.Addr().(*net.TCPAddr).Port
}
