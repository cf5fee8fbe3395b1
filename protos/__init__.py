"""The only place that calls protoc."""
