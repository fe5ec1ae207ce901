package engine

// fifo is a queue that releases its memory when it is empty.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

// push appends an item.
func (f *fifo[T]) push(v T) { f.items = append(f.items, v) }

// at returns the i-th item from the front.
func (f *fifo[T]) at(i int) *T { return &f.items[f.head+i] }

// pop removes the item at the front. Space at the front is reclaimed when it is half
// of the slice.
func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 64 {
			f.items = nil
		}
	} else if f.head >= 64 && f.head*2 >= len(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return v
}

// filter removes the items for which keep returns false.
func (f *fifo[T]) filter(keep func(*T) bool) {
	rest := f.items[:0]
	for i := range f.len() {
		if v := f.at(i); keep(v) {
			rest = append(rest, *v)
		}
	}
	clear(f.items[len(rest):])
	f.items, f.head = rest, 0
}

// remove removes the i-th item from the front.
func (f *fifo[T]) remove(i int) T {
	if i == 0 {
		return f.pop()
	}
	var zero T
	v := f.items[f.head+i]
	copy(f.items[f.head+i:], f.items[f.head+i+1:])
	f.items[len(f.items)-1] = zero
	f.items = f.items[:len(f.items)-1]
	return v
}
