package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const program = "package main\n\nfunc main() { println() }\n"

// compareWithDebugInformation builds a program and insists that its debug information agrees with the layout in each
// struct that it describes.
func (chain toolchain) compareWithDebugInformation(architecture string, found layout) error {
	folder, err := os.MkdirTemp("", "go-layouts")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	source, binary := filepath.Join(folder, "main.go"), filepath.Join(folder, "main")
	if err := os.WriteFile(source, []byte(program), 0o644); err != nil {
		return err
	}
	if _, err := chain.run(architecture, folder, "build", "-o", binary, source); err != nil {
		return err
	}
	structures, err := runtimeStructures(binary)
	if err != nil {
		return err
	}
	for name := range fields {
		if structures[name] == nil {
			return fmt.Errorf("the debug information has no %s", name)
		}
		if err := compare(name, structures[name], found); err != nil {
			return err
		}
	}
	return nil
}

// runtimeStructures gives the structs of package runtime that a program's debug information describes.
func runtimeStructures(binary string) (map[string]*dwarf.StructType, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	information, err := file.DWARF()
	if err != nil {
		return nil, err
	}
	structures := map[string]*dwarf.StructType{}
	for reader := information.Reader(); ; {
		entry, err := reader.Next()
		if err != nil {
			return nil, err
		}
		if entry == nil {
			return structures, nil
		}
		name, _ := entry.Val(dwarf.AttrName).(string)
		plain, isRuntime := strings.CutPrefix(name, "runtime.")
		if entry.Tag != dwarf.TagStructType || !isRuntime || fields[plain] == nil {
			continue
		}
		described, err := information.Type(entry.Offset)
		if err != nil {
			return nil, err
		}
		if structure, ok := described.(*dwarf.StructType); ok {
			structures[plain] = structure
		}
	}
}

func compare(name string, described *dwarf.StructType, found layout) error {
	offsets := map[string]int64{}
	for _, field := range described.Field {
		offsets[field.Name] = field.ByteOffset
	}
	for _, field := range fields[name] {
		told, isTold := found[name+"."+field].(int64)
		offset, isThere := offsets[field]
		if isTold != isThere || told != offset {
			return fmt.Errorf("%s.%s is at %d by the sources, at %d by the debug information", name, field, told, offset)
		}
	}
	size, isTold := found[name+".size"].(int64)
	if _, isField := offsets["size"]; isTold && !isField && size != described.ByteSize {
		return fmt.Errorf("%s has %d bytes by the sources, %d by the debug information", name, size, described.ByteSize)
	}
	return nil
}
