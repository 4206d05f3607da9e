"""What every room stands on: errors, config files, artifacts, runs, reports. Imports no other room."""
