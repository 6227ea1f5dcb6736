"""The SYNTHETIC sample: weather, land model, satellite errors, and the best possible forecast of it."""
