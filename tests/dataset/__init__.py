"""The join of manifest and records, and what is left."""
