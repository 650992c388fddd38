"""The cffi extension: its constants and functions come from the headers in c_ext/."""

from typing import Any

lib: Any
ffi: Any
