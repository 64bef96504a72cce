//go:build !linux

package supervisor

func (s *store) endLeftovers(record) {}

func (s *store) cleanAfter(id string) {}

func (s *store) cleaned(id string) {}
