//go:build pprof

package conversation

import (
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
)

// serveProfiles serves the program's own profiles on a port that is free, and gives it.
func serveProfiles() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(badConversation)
	}
	go http.Serve(listener, nil)
	return listener.Addr().(*net.TCPAddr).Port
}
