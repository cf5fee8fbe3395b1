"""The city service: issues licences, owns their records and keys, and replicates them."""
