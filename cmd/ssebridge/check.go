package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// check validates the configuration and asks the brokers. It prints a line for
// each stream.
func check(_ context.Context, _ []string, stdout, _ io.Writer) error {
	c, problems := readConfig()
	if err := problemsError(problems); err != nil {
		// What cannot be started cannot be checked: that is a check that failed.
		return errors.New(err.Error())
	}
	for _, s := range c.Streams {
		fmt.Fprintln(stdout, s.Mapping)
	}
	return nil
}
