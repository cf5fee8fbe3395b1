"""``elicense load``: load tests as users run them, on nodes of their own or on those that run already."""
