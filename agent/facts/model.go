package facts

import (
	"os"
	"strings"
)

// modelFiles say what machine this is.
var modelFiles = []string{"/proc/device-tree/model", "/sys/class/dmi/id/product_name"}

// Model returns what machine this is, for people; "": it is not known.
func Model() string {
	for _, file := range modelFiles {
		if b, err := os.ReadFile(file); err == nil {
			if model := strings.TrimSpace(strings.Trim(strings.ToValidUTF8(string(b), ""), "\x00")); model != "" && len(model) <= 100 && !strings.ContainsFunc(model, func(r rune) bool { return r < ' ' }) {
				return model
			}
		}
	}
	return ""
}
