"""Weather forecasts of numerical models as the file that --future-from reads (docs/weather_forecasts.md).

download.py   ECMWF's open data: IFS and AIFS, rain and the model's own soil moisture
fields.py     what a field is: its variable, its model run and its hours
grib.py, netcdf.py    the fields of a file
days.py       the fields of a model run as UTC days
prepare.py    the steps: files, model runs, days on the cells of a data set
"""
