// Go-layouts writes where the Go runtime keeps things: offsets in its structs, numbers of its constants.
//
// In: roots of Go toolchains. Out, on standard output: JSON, by release and architecture, of what fields.go lists.
// Nothing of a toolchain is built for that: its runtime's sources are type-checked for each architecture. To be sure,
// the result is compared with the debug information of a program that each toolchain builds.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

var architectures = []string{"amd64", "arm64"}

func main() {
	layouts := map[string]map[string]layout{}
	for _, root := range os.Args[1:] {
		chain := toolchain{root}
		release, err := chain.release()
		if err == nil {
			layouts[release], err = byArchitecture(chain)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "go-layouts: %s: %v\n", root, err)
			os.Exit(1)
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	if err := out.Encode(layouts); err != nil {
		fmt.Fprintf(os.Stderr, "go-layouts: %v\n", err)
		os.Exit(1)
	}
}

func byArchitecture(chain toolchain) (map[string]layout, error) {
	layouts := map[string]layout{}
	for _, architecture := range architectures {
		runtime, err := chain.checkRuntime(architecture)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", architecture, err)
		}
		found, err := runtime.layout()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", architecture, err)
		}
		if err := chain.compareWithDebugInformation(architecture, found); err != nil {
			return nil, fmt.Errorf("%s: %w", architecture, err)
		}
		layouts[architecture] = found
	}
	return layouts, nil
}
