"""What both sides and every verifier share: the licence, its log, its trust and its gRPC plumbing."""
