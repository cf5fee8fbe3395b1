"""The `elicense` command."""
