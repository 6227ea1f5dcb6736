"""How glibc's allocator treats memory that is freed; where there is no glibc, nothing happens."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Let blocks below 1 GiB stay with the process when they are freed, for the next step to use.

    To return them would cost a page fault for each 4 kB that the next step needs.
    """
    if libc := _glibc():
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)  # smaller blocks come from the heap
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # whose end is not given back


def return_freed_memory() -> None:
    """Give freed memory back to the system now, such as before a checkpoint needs as much."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
