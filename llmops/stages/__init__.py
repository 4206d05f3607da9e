"""One folder per stage of the loop, all of one shape: config.py, stage.py, one file per verb."""
