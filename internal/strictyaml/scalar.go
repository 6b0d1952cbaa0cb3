package strictyaml

import (
	"encoding"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// maxSecretBytes bounds what a file or variable that a secret is read from may hold.
const maxSecretBytes = 64 << 10

// scalar reads a string, a boolean or a whole number.
func (d *decoder) scalar(n *Node, v reflect.Value, enum string) {
	switch {
	case v.Kind() == reflect.String:
		if d.wantString(n) && d.inEnum(n, enum) {
			v.SetString(n.text)
		}
	case v.Kind() == reflect.Bool:
		if d.want(n, Bool) {
			v.SetBool(n.text == "true")
		}
	case v.CanInt():
		i, err := strconv.ParseInt(n.text, 10, v.Type().Bits())
		if d.wantWhole(n, err) {
			v.SetInt(i)
		}
	case v.CanUint():
		u, err := strconv.ParseUint(n.text, 10, v.Type().Bits())
		if d.wantWhole(n, err) {
			v.SetUint(u)
		}
	default:
		panic(fmt.Sprintf("strictyaml: %s can't be read from YAML", v.Type()))
	}
}

func (d *decoder) wantString(n *Node) bool {
	if n.kind == Bool || n.kind == Number {
		d.refuse(n, fmt.Sprintf("must be a string, not %s", n.kind), "put it in quotes")
		return false
	}
	return d.want(n, String)
}

func (d *decoder) wantWhole(n *Node, err error) bool {
	if !d.want(n, Number) {
		return false
	}
	if err != nil {
		d.refuse(n, "must be a whole number in decimal digits, within the range of this key", "")
	}
	return err == nil
}

func (d *decoder) inEnum(n *Node, enum string) bool {
	if enum == "" {
		return true
	}
	possible := strings.Split(enum, ",")
	if slices.Contains(possible, n.text) {
		return true
	}
	hint := DidYouMean(n.text, possible)
	if hint == "" {
		hint = "possible are " + strings.Join(possible, ", ")
	}
	d.refuse(n, "is not a value that this key can have", hint)
	return false
}

func (d *decoder) duration(n *Node, v reflect.Value) {
	if n.kind == Number {
		d.refuse(n, "must be a duration with a unit, not a number", `such as "90s", "15m" or "8h"`)
		return
	}
	if !d.want(n, String) {
		return
	}
	length, err := ParseDuration(n.text)
	if err != nil {
		d.refuse(n, err.Error(), `such as "90s", "15m", "8h" or "30d"`)
		return
	}
	v.SetInt(int64(length))
}

var days = regexp.MustCompile(`^(?:([0-9]{1,5})d)$`)

// ParseDuration reads a duration as time.ParseDuration does, not negative, or a whole number of days
// of 24 hours, such as "30d".
func ParseDuration(s string) (time.Duration, error) {
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		return time.Duration(n) * 24 * time.Hour, err
	}
	length, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("must be a duration")
	}
	if length < 0 {
		return 0, fmt.Errorf("must not be negative")
	}
	return length, nil
}

// text reads a string through the type's own UnmarshalText, whose error becomes the problem.
func (d *decoder) text(n *Node, v reflect.Value) {
	if !d.wantString(n) {
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text)); err != nil {
		d.refuse(n, err.Error(), "")
	}
}

// secret reads what a reference names. The reference itself is not a secret; anything else in its
// place may be one by mistake and is not repeated.
func (d *decoder) secret(n *Node, v reflect.Value) {
	if n.kind == Null {
		return
	}
	scheme, rest, _ := strings.Cut(n.text, ":")
	if n.kind != String || rest == "" || scheme != "file" && scheme != "env" {
		d.refuse(n, "must be a reference to a secret, never the secret itself", "write file:PATH or env:NAME")
		return
	}
	read := secretFromEnv
	if scheme == "file" {
		read = secretFromFile
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(n.doc.dir, rest)
		}
	}
	s, problem := read(rest)
	if problem != "" {
		d.refuse(n, problem, "")
		return
	}
	v.Set(reflect.ValueOf(s))
}

// secretFromFile reads a file's content without the line end behind it.
func secretFromFile(path string) (s cred.Secret, problem string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return s, fmt.Sprintf("there is no file %s that can be read", path)
	}
	if wide := info.Mode().Perm() &^ 0o600; wide != 0 {
		return s, fmt.Sprintf("the file %s has mode %04o and others may use it; run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if info.Size() > maxSecretBytes {
		return s, fmt.Sprintf("the file %s is larger than %d bytes", path, maxSecretBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Sprintf("the file %s can't be read", path)
	}
	s = cred.SecretString(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"))
	if s.IsZero() {
		return s, fmt.Sprintf("the file %s is empty", path)
	}
	return s, ""
}

func secretFromEnv(name string) (s cred.Secret, problem string) {
	value := os.Getenv(name)
	if value == "" {
		return s, fmt.Sprintf("the environment variable %s is not set, or empty", strconv.Quote(name))
	}
	return cred.SecretString(value), ""
}
