"""Kinds of fields: what is true of a value wherever it turns up."""
