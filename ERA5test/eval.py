"""Evaluate the runs of ERA5test: predictions.nc, metrics.json and figures in each run directory, and a table.

From the root of the repository:

    python ERA5test/eval.py
    python ERA5test/eval.py runs/ERA5test/cnn/lead3/seed0 --test 2018-06-01 2018-08-31
"""

from utils.evaluation import main

if __name__ == "__main__":
    main("ERA5test")
