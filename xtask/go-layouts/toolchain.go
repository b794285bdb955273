package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// A toolchain is an installed release of Go, by its root.
type toolchain struct{ root string }

var minorRelease = regexp.MustCompile(`^go1\.\d+`)

// release gives the minor release, such as go1.24.
func (chain toolchain) release() (string, error) {
	text, err := os.ReadFile(filepath.Join(chain.root, "VERSION"))
	if err != nil {
		return "", err
	}
	release := minorRelease.Find(text)
	if release == nil {
		return "", errors.New("the file VERSION names no release")
	}
	return string(release), nil
}

// run runs the toolchain's go command for an architecture, and gives what it prints.
func (chain toolchain) run(architecture, folder string, arguments ...string) ([]byte, error) {
	command := exec.Command(filepath.Join(chain.root, "bin", "go"), arguments...)
	command.Dir = folder
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), "GOROOT="+chain.root, "GOOS=linux", "GOARCH="+architecture,
		"GOTOOLCHAIN=local", "GOFLAGS=", "GOEXPERIMENT=", "CGO_ENABLED=0")
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", arguments[0], err)
	}
	return out, nil
}
