"""What pyproject.toml cannot say: that c_ext/build.py makes an extension module."""

from setuptools import setup

setup(cffi_modules=["c_ext/build.py:ffi"])
