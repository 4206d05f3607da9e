"""Versions that were promoted, the pointer to the champion, and the history of its moves."""
