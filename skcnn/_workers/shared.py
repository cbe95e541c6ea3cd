"""Arrays that several processes see: memory maps of temporary files.

The files lie in memory where the system offers that and has room, and are removed with the pool, or
by joblib's resource tracker, a process of its own, if this process is killed.
"""

import io
import os
import pickle
import shutil
import sys
import tempfile
from contextlib import suppress
from itertools import count
from uuid import uuid4

import numpy as np
from joblib.externals.loky.backend import resource_tracker

try:
    import cloudpickle  # which joblib depends on from 1.6 on
except ImportError:
    from joblib.externals import cloudpickle

MEMORY_FOLDER = "/dev/shm"
SHARED_BYTES = 64 * 1024  # a smaller array of a job is sent with it

# Linux's MADV_POPULATE_READ, not yet a name in Python's mmap, maps all pages of a file at once. Fits of
# small networks for three epochs took 4 to 7% less time than if pages came one by one (Zen 5, 2026-11).
POPULATE_READ = 22


class SharedArrays:
    """Allocates arrays that other processes can map, until it is closed."""

    def __init__(self):
        self._folders = {}
        self._files = {}  # arrays of the caller by their id, and the files that hold copies of them
        self._names = map(str, count())

    def empty(self, shape, dtype):
        """Return a new array of zeros in shared memory."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not n_bytes:
            return np.empty(shape, dtype)
        return _map(self._new_file(lambda path: _reserve(path, n_bytes)), dtype, "r+", 0, shape)

    def _new_file(self, fill):
        """Return the path of a new file, which ``fill(path)`` fills, in memory if there is room."""
        for parent in filter(os.path.isdir, (MEMORY_FOLDER, tempfile.gettempdir())):
            try:
                path = os.path.join(self._folder(parent), next(self._names))
                fill(path)
                return path
            except OSError as error:
                failure = error
                with suppress(OSError, UnboundLocalError):
                    os.unlink(path)
        raise failure

    def _folder(self, parent):
        if parent not in self._folders:
            folder = os.path.join(parent, f"skcnn-{os.getpid()}-{uuid4().hex}")
            self._folders[parent] = folder  # before all else, so that `close` undoes the rest
            resource_tracker.register(folder, "folder")
            os.mkdir(folder, 0o700)
        return self._folders[parent]

    def dumps(self, job):
        """Return a job as bytes; its large arrays are copied to shared memory once."""
        file = io.BytesIO()
        _Pickler(file, self).dump(job)
        return file.getvalue()

    def file_of(self, array):
        """Return the path and offset of a copy of an array of the caller's."""
        if id(array) not in self._files:
            path = self._new_file(np.ascontiguousarray(array).tofile)
            self._files[id(array)] = array, path  # the array is kept, so that its id stays its own
        return self._files[id(array)][1], 0

    def holds(self, path):
        """Return whether a file is one of these arrays'."""
        return os.path.dirname(path) in self._folders.values()

    def close(self):
        """Remove the files; memory is freed when the last process drops its arrays."""
        for parent, folder in tuple(self._folders.items()):
            shutil.rmtree(folder, ignore_errors=True)
            # an interrupt may have kept it from being registered, or come after `unregister`
            resource_tracker.register(folder, "folder")
            resource_tracker.unregister(folder, "folder")
            del self._folders[parent]
        self._files = {}


def _reserve(path, n_bytes):
    """Make a file of zeros; an `OSError` says that there is no room, which later would be fatal."""
    with open(path, "wb") as file:
        file.truncate(n_bytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)


def _map(path, dtype, mode, offset, shape):
    """Return a part of a file as a plain array, which is quicker to index than a `memmap`."""
    return np.ndarray(shape, dtype, np.memmap(path, dtype, mode, offset, (int(np.prod(shape)),)))


def _mapped_file(array):
    """Return ``(path, offset)`` of an array that lies in a mapped file as it is; else None."""
    base = array
    while type(base) is not np.memmap or isinstance(base.base, np.memmap):
        base = getattr(base, "base", None)
        if base is None:
            return None
    if base.filename is None or base.mode == "c" or not array.flags.c_contiguous:
        return None
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return str(base.filename), base.offset + start


class _Pickler(cloudpickle.Pickler):
    """Pickles arrays in shared memory, and memory maps of files, as references to the files."""

    def __init__(self, file, arrays):
        super().__init__(file)
        self._arrays = arrays

    def persistent_id(self, obj):
        if type(obj) not in (np.ndarray, np.memmap) or obj.dtype.hasobject:
            return None  # other kinds of arrays are pickled as they are
        mapped = _mapped_file(obj)
        is_own = mapped is not None and self._arrays.holds(mapped[0])
        mode = "r+" if obj.flags.writeable else "r"
        if mapped is None and obj.nbytes >= SHARED_BYTES:
            # what a worker writes to a copy is its own, as it would be of a pickled array
            mapped, is_own, mode = self._arrays.file_of(obj), True, "c" if mode == "r+" else "r"
        return mapped and (*mapped, obj.shape, obj.dtype, mode, is_own)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, reference):
        path, offset, shape, dtype, mode, is_own = reference
        array = _map(path, dtype, mode, offset, shape)
        if is_own and sys.platform == "linux":
            with suppress(OSError):  # before Linux 5.14
                array.base._mmap.madvise(POPULATE_READ)
        return array


def loads(data):
    """Return the job that `SharedArrays.dumps` has pickled, with arrays in the same memory."""
    return _Unpickler(io.BytesIO(data)).load()
