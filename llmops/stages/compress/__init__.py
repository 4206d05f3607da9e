"""Makes the model small, measures each candidate, keeps the best allowed."""
