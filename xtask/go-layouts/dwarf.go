package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	described, err := describedStructures(binary)
	if err != nil {
		return err
	}
	for _, one := range structures {
		if err := one.compare(described, found); err != nil {
			return err
		}
	}
	return nil
}

// describedStructures gives the structs that a program's debug information describes, by name.
func describedStructures(binary string) (map[string]*dwarf.StructType, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	information, err := file.DWARF()
	if err != nil {
		return nil, err
	}
	described := map[string]*dwarf.StructType{}
	for reader := information.Reader(); ; {
		entry, err := reader.Next()
		if err != nil || entry == nil {
			return described, err
		}
		if entry.Tag != dwarf.TagStructType {
			continue
		}
		one, err := information.Type(entry.Offset)
		if err != nil {
			return nil, err
		}
		if structure, ok := one.(*dwarf.StructType); ok {
			described[structure.StructName] = structure
		}
	}
}

func (wanted structure) compare(all map[string]*dwarf.StructType, found layout) error {
	described := all["runtime."+wanted.source]
	if described == nil && wanted.source == "_type" {
		described = all["internal/abi.Type"]
	}
	if described == nil {
		return fmt.Errorf("the debug information has no %s", wanted.source)
	}
	if size := found[sizePrefix+wanted.name]; size != described.ByteSize {
		return fmt.Errorf("%s has %d bytes by the sources, %d by the debug information", wanted.name, size,
			described.ByteSize)
	}
	for _, name := range wanted.fields {
		told, isTold := found[wanted.name+"."+name]
		place := slices.IndexFunc(described.Field, func(field *dwarf.StructField) bool {
			return strings.EqualFold(field.Name, name)
		})
		if isTold != (place >= 0) || isTold && told != described.Field[place].ByteOffset {
			return fmt.Errorf("%s.%s is elsewhere by the debug information", wanted.name, name)
		}
	}
	return nil
}
