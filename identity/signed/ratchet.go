package signed

import (
	"errors"
	"fmt"
	"maps"
)

// Why an order is not obeyed although its signature is valid.
var (
	// ErrOldOrder means that a newer order was obeyed: it is replayed, or came late.
	ErrOldOrder = errors.New("a newer order was obeyed")
	// ErrSameOrder means that this very order was obeyed.
	ErrSameOrder = errors.New("the order was obeyed already")
)

// Mark is the newest order of a key that was obeyed.
type Mark struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"number"`
}

// Ratchet remembers the newest order of each hub key, so that a recorded one is not obeyed
// again. It is stored before an order is obeyed. Epochs are compared over all keys; within an
// epoch, the numbers of a key only grow. The zero Ratchet has obeyed nothing.
type Ratchet struct {
	Marks map[string]Mark `json:"marks,omitempty"` // hash of the key → its newest order
}

// Epoch returns the greatest epoch of an order that was obeyed.
func (r Ratchet) Epoch() uint64 {
	var epoch uint64
	for _, m := range r.Marks {
		epoch = max(epoch, m.Epoch)
	}
	return epoch
}

// Accept returns the ratchet after an order of a key, or why the order is not obeyed.
func (r Ratchet) Accept(key string, order Mark) (Ratchet, error) {
	newest := r.Epoch()
	last, has := r.Marks[key]
	if has && order == last && order.Epoch == newest {
		return r, ErrSameOrder
	}
	if order.Epoch < newest {
		return r, fmt.Errorf("%w: of epoch %d, this one is of epoch %d", ErrOldOrder, newest, order.Epoch)
	}
	if has && order.Epoch == last.Epoch && order.Number <= last.Number {
		return r, fmt.Errorf("%w: number %d, this one is %d", ErrOldOrder, last.Number, order.Number)
	}
	marks := maps.Clone(r.Marks)
	if marks == nil {
		marks = make(map[string]Mark)
	}
	marks[key] = order
	return Ratchet{marks}, nil
}

// Retain returns the ratchet without the keys that do not count any more. A key that was stolen,
// and that counted very far, takes that along when it leaves the key list.
func (r Ratchet) Retain(counts func(key string) bool) Ratchet {
	marks := maps.Clone(r.Marks)
	maps.DeleteFunc(marks, func(key string, _ Mark) bool { return !counts(key) })
	return Ratchet{marks}
}
