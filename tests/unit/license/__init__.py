"""Tests of elicense.license."""
