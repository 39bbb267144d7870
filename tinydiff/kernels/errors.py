"""What kernels complain of, in a file that loads nothing, for those who want to catch it."""


class HostOnly(TypeError, AttributeError):
    """Something was asked of an array on the graphics card that only NumPy can do; the message says what, and what to do."""
