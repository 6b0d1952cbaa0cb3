// Package strictyaml reads configuration files: YAML 1.2 into Go structs, where whatever the structs
// do not know is an error, every problem is reported and not the first alone, and each problem
// carries its line and column.
//
// A program reads its file in two steps, and checks what it means in a third:
//
//	root, problems := strictyaml.ReadFile("proxy.yaml") // syntax
//	var cfg Config
//	problems = append(problems, root.Decode(&cfg)...)   // keys, types, defaults
//	if cfg.Broker == "" {
//		problems = append(problems, root.Problem("broker", "is empty", ""))
//	}
//	return problems.Err()
//
// The struct says what the file may hold:
//
//	type Config struct {
//		Listen  string        `yaml:"listen" default:"127.0.0.1:8080"`
//		Broker  string        `yaml:"broker,required"`
//		Timeout time.Duration `yaml:"timeout" default:"30s"`       // "15m", "30d"
//		Mode    string        `yaml:"mode" enum:"direct,proxy"`
//		Key     cred.Secret   `yaml:"key"`                         // file:PATH or env:NAME alone
//		Driver  *strictyaml.Node `yaml:"driver"`                   // raw, to be decoded later
//	}
//
// Fields may be strings, booleans, whole numbers, time.Duration, cred.Secret, *Node, structs,
// pointers to structs, slices and maps with string keys of these, and whatever implements Decoder
// or encoding.TextUnmarshaler. An embedded struct's keys count as the outer one's. A field without a
// yaml tag is not read.
//
// Nothing that is reported quotes the file beyond the names in it: no excerpts, and no values where
// a secret could have been put by mistake. Documents are bounded in bytes, in depth and in nodes
// after aliases are expanded. Tags, merge keys, directives, complex keys and further documents are
// refused.
package strictyaml
