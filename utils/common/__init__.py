"""Tools that know nothing of soil moisture: files, command line, text, periods, grids and parallel jobs."""
