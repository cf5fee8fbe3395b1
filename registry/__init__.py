"""The central service: receives every city's signed records and keeps one national view."""
