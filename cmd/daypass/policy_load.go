package main

import (
	"os"

	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// loadPolicy reads a configuration whose rules are to be tried.
func loadPolicy(file string) (*config.Config, error) {
	c, _, err := readPolicy(file)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readPolicy reads what can be read of a configuration, nil where that is nothing, with its text and
// the problems in it.
func readPolicy(file string) (c *config.Config, text []byte, problems error) {
	text, err := os.ReadFile(file)
	if err != nil || len(text) > strictyaml.MaxBytes {
		_, err = config.Load(file, config.Options{WithoutFiles: true, Schedules: true}) // says it as for every other command
		return nil, nil, err
	}
	_, problems = config.Parse(file, text, config.Options{
		WithoutFiles: true, Schedules: true,
		More: func(read *config.Config) strictyaml.Problems {
			c = read
			return nil
		},
	})
	return c, text, problems
}
