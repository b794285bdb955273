package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// layout finds all that fields.go lists.
func (runtime *checkedRuntime) layout() (layout, error) {
	found := layout{}
	for _, wanted := range structures {
		if err := runtime.addStructure(wanted, found); err != nil {
			return nil, err
		}
	}
	runtime.addConstants(found)
	return found, nil
}

func (runtime *checkedRuntime) addStructure(wanted structure, found layout) error {
	object := runtime.types.Scope().Lookup(wanted.source)
	if object == nil {
		return fmt.Errorf("there is no %s", wanted.source)
	}
	described, ok := object.Type().Underlying().(*types.Struct)
	if !ok {
		return fmt.Errorf("%s is no struct", wanted.source)
	}
	found[sizePrefix+wanted.name] = runtime.sizes.Sizeof(described)
	all := slices.Collect(described.Fields())
	offsets := runtime.sizes.Offsetsof(all)
	for _, field := range wanted.fields {
		for i, candidate := range all {
			if strings.EqualFold(candidate.Name(), field) {
				found[wanted.name+"."+field] = offsets[i]
			}
		}
	}
	return nil
}

func (runtime *checkedRuntime) addConstants(found layout) {
	scope := runtime.types.Scope()
	for _, name := range scope.Names() {
		kind, isKind := cutPrefixFold(strings.TrimPrefix(name, "_"), kindsOfSpecial)
		value, isConstant := scope.Lookup(name).(*types.Const)
		if !isKind || !isConstant {
			continue
		}
		if number, exact := constant.Int64Val(value.Val()); exact {
			found[constantPrefix+kindsOfSpecial+kind] = number
		}
	}
}

func cutPrefixFold(text, prefix string) (after string, found bool) {
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], prefix) {
		return "", false
	}
	return text[len(prefix):], true
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
