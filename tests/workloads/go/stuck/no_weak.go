//go:build !go1.24

package main

// weakly does nothing: there are no weak pointers and no cleanups.
func weakly() {}
