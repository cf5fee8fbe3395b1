"""Verbs about logs and what is signed over them."""
