package devices

import (
	"fmt"
	"slices"
	"strings"
)

// details are what is wrong with parts of an announcement: they are left out or
// cut, and the rest counts. It is an error that a reader returns together with
// what it has read.
type details struct {
	all  []string
	more int // that were not listed
}

// maxDetails is how many different details of one message are listed.
const maxDetails = 4

// note adds what is wrong with a part. nil is nothing.
func (d *details) note(err error) {
	switch {
	case err == nil || slices.Contains(d.all, err.Error()):
	case len(d.all) >= maxDetails:
		d.more++
	default:
		d.all = append(d.all, cut(err.Error(), maxProblem))
	}
}

// err returns d, nil where nothing is wrong.
func (d *details) err() error {
	if len(d.all) == 0 {
		return nil
	}
	return d
}

func (d *details) Error() string {
	text := strings.Join(d.all, "; ")
	if d.more > 0 {
		text += fmt.Sprintf("; and %d more", d.more)
	}
	return text
}
