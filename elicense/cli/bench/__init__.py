"""``elicense bench``: what is measured rather than tested."""
