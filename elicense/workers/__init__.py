"""Several processes that serve one node: who does what, who leads, and who keeps them running."""
