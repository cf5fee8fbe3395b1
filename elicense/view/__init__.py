"""The view of licences that verifications read: a fold of logs, shared by registry and city."""
