package oci

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// place is where the walk through a spec stands: the path of the table's row,
// and the same with the real indices, for people.
type place struct{ row, shown string }

func (p place) field(name string) place {
	if p.row == "" {
		return place{name, name}
	}
	return place{p.row + "." + name, p.shown + "." + name}
}

func (p place) index(i int) place {
	return place{p.row + "[]", p.shown + "[" + strconv.Itoa(i) + "]"}
}

func (p place) key(k string) place {
	return place{p.row + "{}", p.shown + "[" + strconv.Quote(k) + "]"}
}

// carry copies from src to dst what the table allows. A refused field that is
// set is an error, and so is a set field that the table does not know.
func carry(at place, src, dst reflect.Value) error {
	row, known := fieldByPath[at.row]
	switch {
	case known && row.Class == Refused:
		if row.asksNothing(src) {
			return nil
		}
		return refusal(at, src, row.Rule)
	case known:
		dst.Set(deepCopy(src))
		return nil
	case innerPaths[at.row] || at.row == "":
		return carryInner(at, src, dst)
	case isHollow(src):
		return nil
	default:
		return refusal(at, src, "it is not known to this version of Dougong")
	}
}

func carryInner(at place, src, dst reflect.Value) error {
	switch src.Kind() {
	case reflect.Pointer:
		if src.IsNil() {
			return nil
		}
		dst.Set(reflect.New(src.Type().Elem()))
		return carryInner(at, src.Elem(), dst.Elem())
	case reflect.Slice:
		return carrySlice(at, src, dst)
	case reflect.Map:
		return carryMap(at, src, dst)
	case reflect.Struct:
		return carryStruct(at, src, dst)
	default:
		return fmt.Errorf("spec field %s: the table has rows below a plain value: %w", at.shown, errdefs.ErrInternal)
	}
}

func carrySlice(at place, src, dst reflect.Value) error {
	if src.IsNil() {
		return nil
	}
	dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
	for i := range src.Len() {
		if err := carry(at.index(i), src.Index(i), dst.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func carryMap(at place, src, dst reflect.Value) error {
	if src.IsNil() {
		return nil
	}
	dst.Set(reflect.MakeMap(src.Type()))
	for key, value := range src.Seq2() {
		to := reflect.New(value.Type()).Elem()
		if err := carry(at.key(key.String()), value, to); err != nil {
			return err
		}
		dst.SetMapIndex(key, to)
	}
	return nil
}

func carryStruct(at place, src, dst reflect.Value) error {
	for field, value := range src.Fields() {
		next := at
		if !field.Anonymous {
			next = at.field(jsonName(field))
		}
		if err := carry(next, value, dst.FieldByIndex(field.Index)); err != nil {
			return err
		}
	}
	return nil
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// refusal is the error for a field that cannot be carried into the guest.
func refusal(at place, v reflect.Value, why string) error {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	value := ""
	switch v.Kind() {
	case reflect.String:
		value = fmt.Sprintf(" %q", v.String())
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		value = fmt.Sprintf(" %v", v.Interface())
	}
	return unsupported(at.shown+value, why)
}

func unsupported(what, why string) error {
	return fmt.Errorf("spec field %s cannot be carried into the VM: %s: %w", what, why, errdefs.ErrNotImplemented)
}

// deepCopy copies v so that the guest's spec shares no memory with the host's.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(deepCopy(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(deepCopy(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMap(v.Type()))
			for key, value := range v.Seq2() {
				out.SetMapIndex(key, deepCopy(value))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(deepCopy(v.Field(i)))
		}
	default:
		out.Set(v)
	}
	return out
}
