"""gRPC plumbing that both sides share: server, channel, interceptor, errors, telemetry."""
