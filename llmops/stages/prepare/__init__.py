"""Sources in, a clean, split, encoded data set out."""
