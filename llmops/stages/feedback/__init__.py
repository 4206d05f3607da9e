"""Reads the traffic: quality, drift, corrections, and whether a retrain is due."""
