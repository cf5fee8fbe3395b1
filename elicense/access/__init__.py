"""Who looked at whose licence: recorded durably before the look is answered."""
