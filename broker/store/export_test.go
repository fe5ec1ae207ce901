package store

// Model is storetest.Model: what the files are tested against.
type Model interface {
	Apply(Record)
	State() State
}

// NewModel is storetest.NewModel.
var NewModel func() Model
