"""The forecast as one page for a browser: maps, the series of a cell, and how far to trust them."""
