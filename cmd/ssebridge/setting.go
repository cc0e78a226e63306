package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// prefix begins the name of every variable that ssebridge reads.
const prefix = "SSEBRIDGE"

// setting is one variable of the environment. A field of a settings struct
// declares it, by tags:
//
//	default   what holds when the variable is not set
//	required  "true": it must be set
//	min, max  bounds, both included, written as a value of the variable
//	zero      what 0 means, where 0 is outside of the bounds
//	choices   the only values, separated by "|"
//	later     values of a later version, refused by name
//	desc      effect, and the broker's own name of it
//
// The words in split_words become the name, so that no variable without the
// prefix is ever read.
type setting struct {
	name  string // whole, such as SSEBRIDGE_HEARTBEAT
	tag   reflect.StructTag
	field reflect.StructField
	value reflect.Value
}

// settingsOf lists the settings that spec, a pointer to a flat struct, declares.
func settingsOf(prefix string, spec any) []setting {
	var names strings.Builder
	if err := envconfig.Usagef(prefix, spec, &names, "{{range .}}{{.Key}} {{end}}"); err != nil {
		panic(err) // spec is a pointer to a struct and the template is constant
	}
	keys := strings.Fields(names.String())
	settings := make([]setting, 0, len(keys))
	v := reflect.ValueOf(spec).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("ignored") == "" {
			settings = append(settings, setting{keys[len(settings)], f.Tag, f, v.Field(i)})
		}
	}
	return settings
}

// names returns every variable that sets s: secrets are also read from a file.
func (s setting) names() []string {
	if _, ok := reflect.TypeAssert[Secret](s.value); ok {
		return []string{s.name, s.name + fileSuffix}
	}
	return []string{s.name}
}

// A problem is one thing that is wrong with the configuration. Its text begins
// with the variable's name.
type problem string

func (p problem) Error() string { return string(p) }

func problemf(format string, args ...any) problem { return problem(fmt.Sprintf(format, args...)) }

// readSettings fills in spec from the environment and returns all problems.
//
// envconfig stops at its first problem, so it is handed one field at a time. It
// also skips the default of a variable that is set but empty: such a variable
// counts as not set where nothing is a possible value, and is a problem where
// there is a default.
func readSettings(prefix string, spec any) []problem {
	var problems []problem
	for _, s := range settingsOf(prefix, spec) {
		problems = append(problems, s.read(prefix)...)
	}
	return problems
}

func (s setting) read(prefix string) []problem {
	if secret, ok := reflect.TypeAssert[*Secret](s.value.Addr()); ok {
		return secret.read(s.name)
	}
	text, set := os.LookupEnv(s.name)
	def := s.tag.Get("default")
	switch {
	case set && text == "" && def != "":
		return []problem{problemf("%s: is set but empty, which does not mean the default: want %s, or leave it out for %s", s.name, s.want(), def)}
	case text == "" && s.tag.Get("required") == "true":
		return []problem{problemf("%s: is required: want %s", s.name, s.want())}
	case text == "" && def == "":
		return nil
	}

	one := reflect.New(reflect.StructOf([]reflect.StructField{s.field}))
	err := envconfig.Process(prefix, one.Interface())
	s.value.Set(one.Elem().Field(0)) // of a list with a bad item, the good ones
	if err != nil {
		return s.problems(text, err)
	}
	if err := s.inBounds(); err != "" {
		return []problem{problemf("%s=%q: %s", s.name, text, err)}
	}
	return nil
}

// problems turns an error of envconfig into ours. The library's text names Go
// types and its own functions; what was expected says more.
func (s setting) problems(text string, err error) []problem {
	parse, ok := errors.AsType[*envconfig.ParseError](err)
	if !ok {
		return []problem{problemf("%s: %v", s.name, err)}
	}
	if _, ok := reflect.TypeAssert[envconfig.Decoder](s.value.Addr()); !ok {
		return []problem{problemf("%s=%q: want %s", s.name, text, s.want())}
	}
	return problemsOf(s.name, parse.Err) // our own types say what they expected
}

// problemsOf turns an error into problems of a variable, one for each error that
// was joined into it.
func problemsOf(name string, err error) []problem {
	if err == nil {
		return nil
	}
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	var problems []problem
	for _, err := range errs {
		problems = append(problems, problemf("%s: %v", name, err))
	}
	return problems
}

// want says which values are possible.
func (s setting) want() string {
	if choices := s.tag.Get("choices"); choices != "" {
		return orList(strings.Split(choices, "|"))
	}
	what, ok := "a value", true
	switch v := s.value.Addr().Interface().(type) {
	case *time.Duration:
		what = "a duration such as 15s"
	case *int:
		what = "a whole number"
	case *bool:
		what = "true or false"
	case interface{ Want() string }:
		what = v.Want()
	default:
		ok = s.tag.Get("min") != ""
	}
	if b := s.bounds(); b != "" && ok {
		what += ", " + b
	}
	return what
}

// bounds tells the bounds in words, "" if there are none.
func (s setting) bounds() string {
	low, high, zero := s.tag.Get("min"), s.tag.Get("max"), s.tag.Get("zero")
	var b string
	switch {
	case low != "" && high != "":
		b = low + " to " + high
	case low != "":
		b = "at least " + low
	case high != "":
		b = "at most " + high
	}
	if zero != "" {
		b = strings.TrimPrefix(b+", or 0 ("+zero+")", ", or ")
	}
	return b
}

// inBounds returns what is wrong with the value of s, "" if nothing is.
func (s setting) inBounds() string {
	if choices := s.tag.Get("choices"); choices != "" {
		return s.isChoice(strings.Split(choices, "|"), strings.Split(s.tag.Get("later"), "|"))
	}
	low, high := s.tag.Get("min"), s.tag.Get("max")
	if low == "" && high == "" {
		return ""
	}
	v := s.value.Int()
	if v == 0 && s.tag.Get("zero") != "" {
		return ""
	}
	if (low != "" && v < s.number(low)) || (high != "" && v > s.number(high)) {
		return "want " + s.want()
	}
	return ""
}

func (s setting) isChoice(choices, later []string) string {
	v := s.value.String()
	switch {
	case slices.Contains(choices, v):
		return ""
	case slices.Contains(later, v):
		return "is not available in this version: want " + orList(choices)
	}
	return "want " + orList(choices)
}

// number reads a bound as a value of the setting's own type.
func (s setting) number(text string) int64 {
	switch s.value.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(err) // a tag of ours
		}
		return int64(d)
	case Size:
		n, err := parseSize(text)
		if err != nil {
			panic(err)
		}
		return int64(n)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// orList joins words as in "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
