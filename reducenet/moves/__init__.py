"""The moves on networks of this package: each returns a new network and leaves the one handed in untouched."""
