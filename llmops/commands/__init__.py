"""What the commands beside the stages do; each file holds one of them, and prints nothing by itself."""
