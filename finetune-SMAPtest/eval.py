"""Evaluate the runs of finetune-SMAPtest: predictions.nc, metrics.json and figures in each run directory, and a table.

From the root of the repository:

    python finetune-SMAPtest/eval.py
    python finetune-SMAPtest/eval.py runs/finetune-SMAPtest/cnn/lead3/seed0 --test 2018-06-01 2018-08-31
"""

from utils.evaluation import main

if __name__ == "__main__":
    main("finetune-SMAPtest")
