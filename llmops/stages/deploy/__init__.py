"""Proves the bundle through the real server; what passes becomes champion."""
