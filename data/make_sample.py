"""Make the SYNTHETIC sample: two daily products over China that differ the way ERA5-Land and SMAP L4 differ.

    python data/make_sample.py                   52 × 65 cells of 1°, both products, about 15 seconds
    python data/make_sample.py --resolution 2    a quarter of the cells
    python data/make_sample.py --describe        the tables of data/README.md, from the files made before

One stochastic weather drives two runs of a small land model: each product has its own soils, layer depth, rain and
temperature errors. Nothing in it was observed; data/README.md says what it can show and what it cannot.
"""

import sys

from utils.common.cli import one_sentence, parse
from utils.products.synthetic.sample import SampleSettings, make_sample

if __name__ == "__main__":
    with one_sentence():
        make_sample(parse(SampleSettings, sys.argv[1:], __doc__))
