package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"strconv"
	"strings"
)

// A layout is what one release keeps where on one architecture: numbers by name, and the reasons to wait.
type layout map[string]any

// layout finds all that fields.go lists.
func (runtime *checkedRuntime) layout() (layout, error) {
	found := layout{}
	for name := range fields {
		if err := runtime.addOffsets(name, found); err != nil {
			return nil, err
		}
	}
	for _, name := range sized {
		structure, err := runtime.structure(name)
		if err != nil {
			return nil, err
		}
		found[name+".size"] = runtime.sizes.Sizeof(structure)
	}
	bucket, err := runtime.structure("bucket")
	if err != nil {
		return nil, err
	}
	found[stackBehindBucket] = runtime.sizes.Sizeof(bucket)
	runtime.addConstants(found)
	reasons, err := runtime.waitReasons()
	if err != nil {
		return nil, err
	}
	found[waitReasons] = reasons
	return found, nil
}

func (runtime *checkedRuntime) structure(name string) (*types.Struct, error) {
	object := runtime.types.Scope().Lookup(name)
	if object == nil {
		return nil, fmt.Errorf("there is no %s", name)
	}
	structure, ok := object.Type().Underlying().(*types.Struct)
	if !ok {
		return nil, fmt.Errorf("%s is no struct", name)
	}
	return structure, nil
}

func (runtime *checkedRuntime) addOffsets(name string, found layout) error {
	structure, err := runtime.structure(name)
	if err != nil {
		return err
	}
	var all []*types.Var
	for field := range structure.Fields() {
		all = append(all, field)
	}
	offsets := runtime.sizes.Offsetsof(all)
	for _, wanted := range fields[name] {
		for i, field := range all {
			if field.Name() == wanted {
				found[name+"."+wanted] = offsets[i]
			}
		}
	}
	return nil
}

func (runtime *checkedRuntime) addConstants(found layout) {
	scope := runtime.types.Scope()
	for _, name := range scope.Names() {
		plain := strings.TrimPrefix(name, "_")
		value, ok := scope.Lookup(name).(*types.Const)
		if !ok || !strings.HasPrefix(plain, constantPrefix) {
			continue
		}
		if number, exact := constant.Int64Val(value.Val()); exact {
			found[plain] = number
		}
	}
}

// waitReasons reads the literal of the array whose elements are `waitReasonX: "text"`.
func (runtime *checkedRuntime) waitReasons() ([]string, error) {
	var literal *ast.CompositeLit
	for _, file := range runtime.files {
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && spec.Names[0].Name == "waitReasonStrings" && len(spec.Values) == 1 {
				literal, _ = spec.Values[0].(*ast.CompositeLit)
			}
			return literal == nil
		})
	}
	if literal == nil {
		return nil, errors.New("there is no waitReasonStrings")
	}
	reasons := make([]string, len(literal.Elts))
	for _, element := range literal.Elts {
		number, text, err := runtime.waitReason(element)
		if err != nil {
			return nil, err
		}
		if number < 0 || number >= int64(len(reasons)) {
			return nil, fmt.Errorf("the reason %q has the number %d of %d", text, number, len(reasons))
		}
		reasons[number] = text
	}
	return reasons, nil
}

func (runtime *checkedRuntime) waitReason(element ast.Expr) (int64, string, error) {
	pair, ok := element.(*ast.KeyValueExpr)
	if !ok {
		return 0, "", errors.New("waitReasonStrings has an element without a key")
	}
	key, isName := pair.Key.(*ast.Ident)
	value, isText := pair.Value.(*ast.BasicLit)
	if !isName || !isText {
		return 0, "", errors.New("waitReasonStrings has an element that is no name and text")
	}
	reason, ok := runtime.types.Scope().Lookup(key.Name).(*types.Const)
	if !ok {
		return 0, "", fmt.Errorf("%s is no constant", key.Name)
	}
	number, _ := constant.Int64Val(reason.Val())
	text, err := strconv.Unquote(value.Value)
	return number, text, err
}
