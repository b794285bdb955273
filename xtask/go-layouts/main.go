// Go-layouts writes where the Go runtime keeps things: offsets in its structs, their sizes, numbers of its constants.
//
// In: roots of Go toolchains, of each release its first and its last patch. Out, on standard output: JSON, by release
// and architecture, of what fields.go lists; only what holds for all patches that were given. Nothing of a toolchain
// is built for that: its runtime's sources are type-checked for each architecture. To be sure, the result is compared
// with the debug information of a program that each toolchain builds.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

var architectures = []string{"amd64", "arm64"}

func main() {
	releases := map[string]*release{}
	for _, root := range os.Args[1:] {
		if err := add(toolchain{root}, releases); err != nil {
			fmt.Fprintf(os.Stderr, "go-layouts: %s: %v\n", root, err)
			os.Exit(1)
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(releases); err != nil {
		fmt.Fprintf(os.Stderr, "go-layouts: %v\n", err)
		os.Exit(1)
	}
}

// add reads a toolchain's runtime, and keeps of its release what it has in common with the patches before.
func add(chain toolchain, releases map[string]*release) error {
	name, err := chain.release()
	if err != nil {
		return err
	}
	for _, architecture := range architectures {
		runtime, err := chain.checkRuntime(architecture)
		if err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		found, err := runtime.layout()
		if err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		if err := chain.compareWithDebugInformation(architecture, found); err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
		reasons, err := runtime.waitReasons()
		if err != nil {
			return err
		}
		if releases[name] == nil {
			releases[name] = &release{layouts: map[string]layout{}}
		}
		if err := releases[name].merge(architecture, found, reasons); err != nil {
			return err
		}
	}
	return nil
}
