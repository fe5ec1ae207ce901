// Package passwordfile reads files that hold a password, in the same way for every
// program: the first line is the password, without its line end; further lines are
// comments. Hub, agent and command line use it; it knows nothing of what the password
// is for.
package passwordfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxPassword is the maximum length of a password in MQTT in bytes (MQTT 5.0,
// 3.1.3.6).
const maxPassword = 65_535

// Read returns the password in a file. An error names the file, never a part of its
// content.
func Read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if password == "" {
		return "", fmt.Errorf("%s has an empty first line: the password belongs there", path)
	}
	if len(password) > maxPassword {
		return "", fmt.Errorf("the first line of %s is longer than a password may be: at most %d bytes", path, maxPassword)
	}
	return password, nil
}
