"""Make the limit of the SYNTHETIC sample: the best possible forecasts of its SMAP-like product's test year.

    python data/make_limit.py                   for the sample of 1°
    python data/make_limit.py --resolution 2    for that of 2°, about a minute

The sample's truth is known, so its own land model is run ahead from its own state at the end of each day, under many
ways in which its weather may go on. What the means of these ensembles are: utils/products/synthetic/
predictability_limit.py. What the share of the predictable is: data/README.md.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.synthetic.predictability_limit import LimitSettings, make_limit

if __name__ == "__main__":
    with one_sentence():
        make_limit(parse(LimitSettings, sys.argv[1:], __doc__))
