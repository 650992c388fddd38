"""ocirt: an OCI runtime in which Python decides and a small C program does."""

__version__ = "0.1.0"
SPEC_VERSION = "1.3.0"
