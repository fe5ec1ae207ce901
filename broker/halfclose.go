package broker

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

// CloseWrite ends what goes out with a Close frame (RFC 6455, 5.5.1). Whoever
// calls it closes the connection below for writing too.
func (w *webSocket) CloseWrite() error {
	return w.writeControl(frameClose, string(binary.BigEndian.AppendUint16(nil, websocket.CloseNormalClosure)))
}
