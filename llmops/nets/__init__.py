"""Networks built here, the loading of pretrained ones, adapters, export. All map tokens and a mask to logits."""
