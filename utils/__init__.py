"""What the scripts share: five modules to read first, then packages. A package imports only those above it in the list.

settings.py         the settings of each experiment: data, periods, lead time
experiment.py       what a train script does: settings in, run directory out
data_processing.py  prepared data to samples [sample, day, channel, lat, lon]
evaluation.py       a run's predictions.nc, metrics.json, scores.nc and figures
Drawmap.py          the maps among the figures, such as a run's forecast beside the observation

common/    files, command line, periods, grids, parallel jobs: knows nothing of soil moisture
dataset/   the prepared data set: format, checks, statistics, predictors by name, antecedent features, known weather
products/  raw files to prepared data sets: era5/, smap/, join/ (your own), and the SYNTHETIC sample
models/    one short file a model; reference.py has the published models written plainly
training/  the training loop, transfer, checkpoints and run directories
scores/    metrics, baselines, significance tests, score tables
figures/   style and panels of the figures
forecasts/ cross-validation, calibrated quantiles, issued forecasts
stations/  forecasts held against stations in the soil (ISMN)
study/     the whole study: plan, jobs, report; questions/ has one file a question
"""
