"""Rows and texts: readers, cleaning, redaction, hashing, the traffic log."""
