"""What travels to production: the folder format, the runtimes that compute, and the predictor that joins them."""
