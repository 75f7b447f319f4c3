"""A chapter runs alone: any connection but those of Jupyter itself is refused.

Python imports this file as it starts wherever its folder is on PYTHONPATH;
fresh_execution.py puts it there for the kernels that execute the chapters.
"""

import socket

_connect = socket.socket.connect


def connect(self, address):
    """Connect within this machine; raise PermissionError for any other."""
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost"):
        raise PermissionError(f"a chapter asked for {address}")
    return _connect(self, address)


socket.socket.connect = connect
