"""How each service words its answers: one file a service, one line in `table.DIALECTS` each."""
