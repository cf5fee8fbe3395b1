"""The licence itself: record, classes, status letters, identity numbers, divisions and rules; pure, no I/O."""
