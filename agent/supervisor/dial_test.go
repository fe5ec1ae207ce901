package supervisor

import (
	"context"
	"net"
	"slices"
	"syscall"
	"testing"
)

// A check reaches a service wherever on this machine it listens.
func TestDialFindsTheAddress(t *testing.T) {
	for _, listens := range []string{"127.0.0.1:80", "[::1]:80", "192.168.1.2:80", ""} {
		var tried []string
		s := &Supervisor{o: Options{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			tried = append(tried, address)
			if address == listens {
				c, other := net.Pipe()
				other.Close()
				return c, nil
			}
			return nil, syscall.ECONNREFUSED
		}}}
		c, err := s.dial(t.Context(), "192.168.1.2", 80)
		if (err == nil) != (listens != "") || listens != "" && tried[len(tried)-1] != listens {
			t.Errorf("listens at %q: tried %q, %v", listens, tried, err)
		}
		if listens == "" && err.Error() != "nothing listens on port 80" {
			t.Error(err)
		}
		if c != nil {
			c.Close()
		}
		if tried = slices.Compact(tried); len(tried) > 3 {
			t.Errorf("tried %q", tried)
		}
	}
}
