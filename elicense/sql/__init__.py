"""SQL databases: connections, threads, retries, schema rules and migrations."""
