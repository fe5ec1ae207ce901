// Command badger measures github.com/dgraph-io/badger/v4, which writes to
// mapped files.
package main

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type engine struct{ db *badger.DB }

func (e engine) Commit(pairs []measure.Pair, sync bool) error {
	b := e.db.NewWriteBatch()
	for _, p := range pairs {
		if err := b.Set(p.Key, p.Value); err != nil {
			return err
		}
	}
	if err := b.Flush(); err != nil || !sync {
		return err
	}
	return e.db.Sync()
}

func (e engine) Each(f func(k, v []byte)) error {
	return e.db.View(func(tx *badger.Txn) error {
		i := tx.NewIterator(badger.DefaultIteratorOptions)
		defer i.Close()
		for i.Rewind(); i.Valid(); i.Next() {
			if err := i.Item().Value(func(v []byte) error { f(i.Item().Key(), v); return nil }); err != nil {
				return err
			}
		}
		return nil
	})
}
func (e engine) Close() error { return e.db.Close() }

func main() {
	measure.Run("badger", func(dir string) (measure.Engine, error) {
		db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithMemTableSize(8 << 20).WithValueLogFileSize(16 << 20))
		return engine{db}, err
	})
}
