"""Small helpers: fingerprints of files and of code, locks, days that show something."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from utils.common import files
from utils.common.cli import UserError
from utils.common.files import ROOT, code_hash, file_hash, hold_lock, whole_file
from utils.scores import metrics


def test_a_hash_is_kept_while_the_file_is_and_made_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CLOCK_TICK", -1)  # as if the file had been there for long
    path = tmp_path / "data.nc"
    before = files._hash_of.cache_info().misses
    for content, made in ((b"one", 1), (b"one", 1), (b"two of them", 2), (b"two of them", 2)):
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        assert file_hash(path) == hashlib.sha256(content).hexdigest()
        assert files._hash_of.cache_info().misses - before == made


def test_the_hash_of_a_file_written_anew_is_not_that_of_the_one_before(tmp_path):
    """Of the same size, and within the same tick of the file system's clock."""
    path = tmp_path / "data.nc"
    for content in (b"one", b"two"):
        with whole_file(path) as partial:
            partial.write_bytes(content)
        assert file_hash(path) == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_file_rewritten_in_place_within_a_tick_of_the_clock_is_the_new_one(tmp_path):
    path = tmp_path / "data.nc"
    path.write_bytes(b"one")
    before = path.stat()
    assert file_hash(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_hash(path) == hashlib.sha256(b"two").hexdigest()


def test_the_hash_of_a_store_knows_its_names_and_its_files(tmp_path):
    store = tmp_path / "data.zarr"
    (store / "a").mkdir(parents=True)
    (store / "a" / "0").write_bytes(b"x")
    first = file_hash(store)
    assert first == hashlib.sha256(b"a/0x").hexdigest()
    (store / "a" / "1").write_bytes(b"")
    assert file_hash(store) == hashlib.sha256(b"a/0xa/1").hexdigest()


def test_a_hash_of_code_changes_with_what_it_does_and_with_what_it_imports(tmp_path, monkeypatch):
    """Not with comments, docstrings and line breaks."""
    package = tmp_path / "utils"
    package.mkdir()
    monkeypatch.setattr(files, "ROOT", tmp_path)
    inner = "SCALE = 2\n"
    outer = "from utils import inner\n\n\ndef double(x):\n    return inner.SCALE * x  # twice\n"
    reworded = outer.replace("    return", '    """Other words."""\n\n    return').replace("twice", "two times")

    def hash_of(inner: str, outer: str) -> str:
        (package / "inner.py").write_text(inner)
        (package / "outer.py").write_text(outer)
        code_hash.cache_clear()
        return code_hash("utils.outer")

    first = hash_of(inner, outer)
    assert hash_of(inner, reworded) == hash_of("# a comment\n" + inner, outer) == first
    assert len({first, hash_of("SCALE = 3\n", outer), hash_of(inner, outer.replace("* x", "+ x"))}) == 3
    with pytest.raises(ValueError, match="no module of this project"):
        code_hash("utils.nowhere")
    code_hash.cache_clear()


def test_prepared_months_hang_on_the_code_that_makes_their_values_and_on_nothing_else():
    code = files._trees("utils.products.era5.daily").keys() | files._trees("utils.products.smap.daily").keys()
    needed = {"era5.netcdf", "era5.grib", "era5.mosaic", "era5.accumulation", "smap.granules", "regrid"}
    assert {f"utils.products.{name}" for name in needed} | {"utils.dataset.prepared", "utils.common.grid"} <= code
    assert not {"utils.products.report", "utils.products.download", "utils.products.monthly"} & code


def test_a_lock_is_held_by_one_process_and_freed_when_it_ends(tmp_path):
    lock, out = tmp_path / "folder" / "lock", tmp_path / "out.nc"
    program = f"""
from pathlib import Path
from utils.common.files import hold_lock
with hold_lock(Path({str(lock)!r}), Path("out")):
    print("held", flush=True)
    input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=r"out\.nc is in use by another process"), hold_lock(lock, out):
        pass
    process.kill()
    process.wait()
    with hold_lock(lock, out):
        pass


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"run cannot be written: .*; give another --out"),
        hold_lock(tmp_path / "file" / "lock", tmp_path / "run"),
    ):
        pass


def test_days_that_show_something_have_as_many_cells_as_half_of_all_days_with_any():
    assert list(metrics.well_covered(np.array([0.0, 1, 5, 9, 0]))) == [False, False, True, True, False]
