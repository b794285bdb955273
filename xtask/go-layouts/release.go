package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// A layout is what a runtime keeps where on one architecture, by name.
type layout map[string]int64

// A release is what all its patches have in common.
type release struct {
	layouts     map[string]layout
	waitReasons []string
}

// merge takes in what one patch has.
func (r *release) merge(architecture string, found layout, reasons []string) error {
	if known := r.layouts[architecture]; known == nil {
		r.layouts[architecture] = found
	} else {
		known.intersect(found)
	}
	// Patches add reasons; the numbers of the others stay.
	shorter, longer := r.waitReasons, reasons
	if len(shorter) > len(longer) {
		shorter, longer = longer, shorter
	}
	if !slices.Equal(shorter, longer[:len(shorter)]) {
		return errors.New("the reasons to wait have other numbers than in another patch")
	}
	r.waitReasons = longer
	return nil
}

// intersect keeps the offsets that are the same. Of sizes it keeps the smaller: so many bytes every patch has.
func (known layout) intersect(other layout) {
	for name, number := range known {
		switch there, ok := other[name]; {
		case ok && strings.HasPrefix(name, sizePrefix):
			known[name] = min(number, there)
		case !ok || there != number:
			delete(known, name)
		}
	}
}

// MarshalJSON puts the reasons beside the architectures.
func (r *release) MarshalJSON() ([]byte, error) {
	all := map[string]any{"waitreasons": r.waitReasons}
	for architecture, layout := range r.layouts {
		all[architecture] = layout
	}
	return json.Marshal(all)
}
