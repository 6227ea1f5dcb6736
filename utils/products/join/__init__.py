"""Any soil-moisture product and any predictors as one prepared data set: what data/join.py does.

words.py      what the command line names: files, variables and units
files.py      a file as daily or hourly fields [time, lat, lon]: NetCDF, Zarr, or the CSV of one site
days.py       daily totals and means on the cells of the data set
join.py       the steps, and the data set that comes of them
"""
