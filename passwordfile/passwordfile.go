// Package passwordfile reads the files that hold a password, the same way for
// every program: the first line is the password, without its line end, and
// what follows is for people. Hub, agent and command line use it; it knows
// nothing of what the password is for.
package passwordfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// longest is what MQTT can carry as a password (MQTT 5.0, 3.1.3.6).
const longest = 65_535

// Read returns the password in a file. Its errors name the file, never a part
// of what it holds.
func Read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, longest+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	switch {
	case password == "":
		return "", fmt.Errorf("%s has an empty first line: the password belongs there", path)
	case len(password) > longest:
		return "", fmt.Errorf("the first line of %s is longer than a password may be", path)
	}
	return password, nil
}
