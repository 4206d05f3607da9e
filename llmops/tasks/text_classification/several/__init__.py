"""Several labels for one text: what differs from one label, from the reading of cells to the proof."""
