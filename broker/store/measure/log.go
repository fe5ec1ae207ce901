package measure

import "encoding/binary"

// Log is a candidate that only appends: Logged makes an Engine of it.
type Log interface {
	Append(entry []byte, sync bool) error
	// Each goes over the entries.
	Each(func(entry []byte)) error
	// Mark starts a new file, Cut drops what came before the last Mark.
	Mark() error
	Cut() error
	Close() error
}

// Logged keeps an index of a log and rewrites it when it is twice as large as
// what is in it.
type Logged struct {
	log        Log
	kept       map[string]string
	live, size int
}

// OpenLogged reads the log.
func OpenLogged(log Log) (*Logged, error) {
	l := &Logged{log: log, kept: map[string]string{}}
	return l, log.Each(func(entry []byte) {
		l.size += len(entry)
		for len(entry) > 0 {
			n, a := binary.Uvarint(entry)
			m, b := binary.Uvarint(entry[a:])
			entry = entry[a+b:]
			l.put(string(entry[:n]), string(entry[n:n+m]))
			entry = entry[n+m:]
		}
	})
}

func (l *Logged) put(k, v string) {
	if old, ok := l.kept[k]; ok {
		l.live -= len(k) + len(old)
	}
	l.kept[k] = v
	l.live += len(k) + len(v)
}

func encode(b []byte, k, v string) []byte {
	b = binary.AppendUvarint(b, uint64(len(k)))
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(append(b, k...), v...)
}

// Commit implements Engine.
func (l *Logged) Commit(pairs []Pair, sync bool) error {
	var b []byte
	for _, p := range pairs {
		b = encode(b, string(p.Key), string(p.Value))
	}
	if err := l.log.Append(b, sync); err != nil {
		return err
	}
	for _, p := range pairs {
		l.put(string(p.Key), string(p.Value))
	}
	if l.size += len(b); l.size > 2*l.live+8<<20 {
		return l.compact()
	}
	return nil
}

func (l *Logged) compact() error {
	if err := l.log.Mark(); err != nil {
		return err
	}
	var b []byte
	l.size = 0
	for k, v := range l.kept {
		if b = encode(b, k, v); len(b) > 256<<10 {
			if err := l.log.Append(b, false); err != nil {
				return err
			}
			l.size += len(b)
			b = nil
		}
	}
	if err := l.log.Append(b, true); err != nil {
		return err
	}
	return l.log.Cut()
}

// Each implements Engine.
func (l *Logged) Each(f func(k, v []byte)) error {
	for k, v := range l.kept {
		f([]byte(k), []byte(v))
	}
	return nil
}

// Close implements Engine.
func (l *Logged) Close() error { return l.log.Close() }
