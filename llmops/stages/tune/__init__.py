"""Searches for better settings than the trained model's."""
