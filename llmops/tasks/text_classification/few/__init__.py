"""Few rows a class: what a training does differently."""
