// Command bbolt measures go.etcd.io/bbolt. Each commit syncs: without it a
// power cut leaves a file that cannot be read.
package main

import (
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

var bucket = []byte("all")

type engine struct{ db *bbolt.DB }

func (e engine) Commit(pairs []measure.Pair, _ bool) error {
	return e.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		for _, p := range pairs {
			if err == nil {
				err = b.Put(p.Key, p.Value)
			}
		}
		return err
	})
}

func (e engine) Each(f func(k, v []byte)) error {
	return e.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error { f(k, v); return nil })
	})
}
func (e engine) Close() error { return e.db.Close() }

func main() {
	measure.Run("bbolt", func(dir string) (measure.Engine, error) {
		_ = os.MkdirAll(dir, 0o755)
		o := *bbolt.DefaultOptions
		o.FreelistType, o.NoFreelistSync = bbolt.FreelistMapType, true
		db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, &o)
		return engine{db}, err
	})
}
