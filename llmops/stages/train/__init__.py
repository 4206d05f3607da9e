"""A data set in, a trained model out."""
