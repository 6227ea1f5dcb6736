"""The SYNTHETIC sample: a made-up world, two products that observe it, the best forecasts, and ones with errors."""
