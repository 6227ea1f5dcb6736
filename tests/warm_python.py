"""Blocks of a page, one after the other: Python in this process, shell in bash, whose `python` is a fork of it.

A script starts in a copy of a process that has imported what all of them import, which takes each of them seconds.

python tests/warm_python.py BLOCKS.json          a list of [kind, text]; CLIENT is to be `python` on the PATH
"""

import json
import os
import runpy
import select
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

CLIENT = """#!{python} -ES
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["WARM_PYTHON"])
    socket.send_fds(server, [json.dumps([os.getcwd(), sys.argv[1:]]).encode()], [0, 1, 2])
    sys.exit(server.recv(1)[0])
"""


def main(blocks: Path) -> None:
    import utils.evaluation
    import utils.forecasts.hindcasts
    import utils.study.report  # noqa: F401

    names: dict[str, object] = {}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.environ["WARM_PYTHON"])
        server.listen()
        for kind, text in json.loads(blocks.read_text(encoding="utf-8")):
            start = time.monotonic()
            if kind == "python":
                exec(text, names)
            elif code := bash(text, server):
                sys.exit(code)
            print(f"--- {time.monotonic() - start:.1f} s", flush=True)


def bash(text: str, server: socket.socket) -> int:
    """The exit code; what is printed goes where this process prints."""
    sys.stdout.flush()
    shell = subprocess.Popen(["bash", "-euo", "pipefail", "-c", text])
    while shell.poll() is None:
        if select.select([server], [], [], 0.02)[0]:
            with server.accept()[0] as caller:
                message, streams, *_ = socket.recv_fds(caller, 2**16, 3)
                caller.send(bytes([script(*json.loads(message), streams)]))
                for stream in streams:
                    os.close(stream)
    return shell.returncode


def script(folder: str, arguments: list[str], streams: list[int]) -> int:
    """Run `python ARGUMENTS` in this folder, in a copy of this process; its exit code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
