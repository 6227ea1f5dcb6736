"""Forecasts held against stations in the soil: the archive, the maps at the stations, scores, tables and a map."""
