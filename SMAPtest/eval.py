"""Evaluate the runs of SMAPtest: predictions.nc, metrics.json and figures in each run directory, and a table.

From the root of the repository:

    python SMAPtest/eval.py
    python SMAPtest/eval.py runs/SMAPtest/cnn/lead3/seed0 --test 2018-06-01 2018-08-31
"""

from utils.evaluation import main

if __name__ == "__main__":
    main("SMAPtest")
