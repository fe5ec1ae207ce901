package devices

import (
	"fmt"
	"slices"
	"strings"
)

// partialError is what is wrong with parts of an announcement: they are omitted or
// cut, and the rest is used. A reader returns it together with what it has read.
type partialError struct {
	all []string
	// more counts those that were not listed.
	more int
}

// maxDetails is how many different details of one message are listed.
const maxDetails = 4

// add adds what is wrong with a part, unless err is nil.
func (d *partialError) add(err error) {
	if err == nil || slices.Contains(d.all, err.Error()) {
		return
	}
	if len(d.all) >= maxDetails {
		d.more++
	} else {
		d.all = append(d.all, cut(err.Error(), maxProblem))
	}
}

// err returns d, nil where nothing is wrong.
func (d *partialError) err() error {
	if len(d.all) == 0 {
		return nil
	}
	return d
}

func (d *partialError) Error() string {
	text := strings.Join(d.all, "; ")
	if d.more > 0 {
		text += fmt.Sprintf("; and %d more", d.more)
	}
	return text
}
