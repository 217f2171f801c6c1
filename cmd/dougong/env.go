package main

import (
	"fmt"
	"os"

	"dougong.dev/dougong/internal/oci/flags"
)

// collectEnv joins --env-file and --env, the latter last: it counts.
func collectEnv(env, files []string) ([]string, error) {
	var all []string
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read --env-file: %w", err)
		}
		more, err := flags.ParseEnvFile(name, content, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	for _, s := range env {
		e, err := flags.ParseEnv(s, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, s := range list {
		key, value, err := flags.ParseLabel(s)
		if err != nil {
			return nil, err
		}
		labels[key] = value
	}
	return labels, nil
}
