"""The loopback server of `watch` and `review`."""
