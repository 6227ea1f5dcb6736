"""Forecasts for users: cross-validation, calibrated quantiles, issued forecasts and hindcasts."""
