//go:build go1.24

package main

import (
	"runtime"
	"weak"
)

var weaks []weak.Pointer[box]

//go:noinline
func weakly() {
	held := &box{channel: make(chan int)}
	weaks = append(weaks, weak.Make(held))
	go func() { // SITE of_weak
		<-held.channel
		runtime.KeepAlive(held)
	}()
	cleaned := &box{channel: make(chan int)}
	channel := cleaned.channel
	runtime.AddCleanup(cleaned, func(channel chan int) { close(channel) }, channel)
	go func() { // SITE of_cleanup
		<-channel
	}()
}
