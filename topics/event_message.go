package topics

import "strings"

// maxMessage bounds a message of a domain, in bytes, where it is published again.
const maxMessage = 1000

// ShortenMessage cuts a message of a domain that is published again.
func ShortenMessage(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

// CutNextTry cuts the time until the next try out of what an agent reports of an
// instance: it does not count down where it is retained. Events hold it, and the
// messages of agents before NextTry.
func CutNextTry(message string) string {
	head, lines, more := strings.Cut(message, "\n")
	for _, before := range []string{"; next try in ", ", next try in "} {
		head, _, _ = strings.Cut(head, before)
	}
	if more {
		head += "\n" + lines
	}
	return head
}
