package appenv

// File is one parsed file.
type File struct {
	Vars    []Var  // of a process: each name once, in the order of first assignment
	Dropped Faults // assignments that the grammar ignores
	Notes   Faults // assignments that other well-known readers read otherwise
}

// In returns the file with path as the File of its faults.
func (f File) In(path string) File {
	f.Dropped, f.Notes = f.Dropped.In(path), f.Notes.In(path)
	return f
}
