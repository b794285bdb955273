package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"path/filepath"
)

// A checkedRuntime is package runtime for one architecture, with types.
type checkedRuntime struct {
	types *types.Package
	files []*ast.File
	sizes types.Sizes
}

// A listed package is what `go list` says of it: the files that this toolchain compiles for the architecture.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
}

// checkRuntime type-checks the runtime and what it imports. The toolchain's own go command says which files those
// are, since build tags depend on the experiments that are on by default in a release.
func (chain toolchain) checkRuntime(architecture string) (*checkedRuntime, error) {
	packages, err := chain.list(architecture)
	if err != nil {
		return nil, err
	}
	positions := token.NewFileSet()
	checked := importer{"unsafe": types.Unsafe}
	result := &checkedRuntime{sizes: types.SizesFor("gc", architecture)}
	config := types.Config{Importer: checked, Sizes: result.sizes, IgnoreFuncBodies: true}
	for _, listed := range packages {
		if listed.ImportPath == "unsafe" {
			continue
		}
		result.files = nil
		for _, name := range listed.GoFiles {
			file, err := parser.ParseFile(positions, filepath.Join(listed.Dir, name), nil, 0)
			if err != nil {
				return nil, err
			}
			result.files = append(result.files, file)
		}
		result.types, err = config.Check(listed.ImportPath, positions, result.files, nil)
		if err != nil {
			return nil, err
		}
		checked[listed.ImportPath] = result.types
	}
	if result.types == nil || result.types.Path() != "runtime" {
		return nil, errors.New("the last package is not the runtime")
	}
	return result, nil
}

// list gives the packages that the runtime consists of, each after what it imports, the runtime last.
func (chain toolchain) list(architecture string) ([]listed, error) {
	out, err := chain.run(architecture, chain.root, "list", "-deps", "-json=ImportPath,Dir,GoFiles", "runtime")
	if err != nil {
		return nil, err
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var one listed
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, one)
	}
}

// An importer knows the packages that are checked already.
type importer map[string]*types.Package

// Import gives one of them.
func (known importer) Import(path string) (*types.Package, error) {
	if known[path] == nil {
		return nil, fmt.Errorf("%s is imported before it is listed", path)
	}
	return known[path], nil
}
