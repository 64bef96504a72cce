package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
)

// fromFile reads a file that the caller named, as the caller. A file without end, as a device is, is read to a limit.
func (o *envOptions) fromFile(g *globals, args []string) error {
	f, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, appenv.MaxFile+1))
	if err != nil {
		return err
	}
	file, err := appenv.Parse(o.format, data)
	if faults, ok := errors.AsType[appenv.Faults](err); ok {
		return faults.In(o.file)
	}
	if err != nil {
		return misuse(fmt.Errorf("--format: %w", err))
	}
	file = file.In(o.file)
	for _, f := range slices.Concat(file.Dropped, file.Notes) {
		printf(g.Err, "note: %s\n", f)
	}
	var vars []api.Variable
	for _, v := range file.Vars {
		value := v.Value()
		vars = append(vars, api.Variable{Name: v.Name, Value: &value, Length: len(value),
			Source: fmt.Sprintf("%s:%d", o.file, v.Line)})
	}
	return o.print(g, vars, args)
}
