"""Scores of forecasts: metrics, baselines, significance tests and the score table."""
