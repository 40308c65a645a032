"""The key, and signed URLs, stay where they belong."""
