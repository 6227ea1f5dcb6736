"""SMAP L4: download, raw granules, daily values."""
