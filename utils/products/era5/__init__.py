"""ERA5 and ERA5-Land: download, raw files of every shape, daily values."""
