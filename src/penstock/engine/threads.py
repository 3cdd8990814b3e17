"""How many threads the linear algebra behind NumPy may use.

NumPy's wheels bring OpenBLAS, which by default takes a thread per core for each product, however small, and lets them wait
in a busy loop. Beside other work on the same cores that made decoding a small model ten times slower (measured). Whoever
owns the process decides; nothing here is called on import or on load. NumPy has no function for it, so the library's own
is looked up among those that NumPy's extension module has loaded.
"""

import ctypes

from numpy.linalg import _umath_linalg

SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)
"""OpenBLAS as NumPy's wheels name it, as distributions do, and MKL. Apple's Accelerate looks after itself."""


def limit_blas_threads(count: int) -> bool:
    """Let products of the whole process use at most so many threads; False if the library has no such switch."""
    if count < 1:
        raise ValueError("BLAS needs at least 1 thread.")
    library = ctypes.CDLL(_umath_linalg.__file__)
    for name in SETTERS:
        setter = getattr(library, name, None)
        if setter is not None:
            setter(ctypes.c_int(count))
            return True
    return False
