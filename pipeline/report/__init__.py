"""The report: batches of records and requests -> facts -> one self-contained HTML page."""
