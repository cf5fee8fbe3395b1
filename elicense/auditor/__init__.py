"""An auditor: follows every log of the nation and keeps evidence of whatever contradicts itself."""
