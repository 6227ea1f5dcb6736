"""The published code's defects can still be put back: `make defects` would otherwise test nothing."""

import pytest
from conftest import ROOT
from defects import DEFECTS


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.what)
def test_what_a_defect_replaces_is_there(defect):
    assert defect.right in (ROOT / defect.file).read_text()
    assert (ROOT / "tests" / defect.test.split()[0]).is_file()
