"""Arrays that several processes see: memory maps of temporary files.

The files lie in memory where the system offers that (``/dev/shm`` on Linux) and there is room for
them, else in the folder for temporary files. joblib's resource tracker, a process of its own,
removes them even if this process is killed.
"""

import io
import os
import pickle
import shutil
import tempfile

import numpy as np
from joblib.externals.loky.backend import resource_tracker

try:
    import cloudpickle  # which joblib depends on from 1.6 on
except ImportError:
    from joblib.externals import cloudpickle

MEMORY_FOLDER = "/dev/shm"

# Bytes from which on an array of a job lies in shared memory; a smaller one is sent as it is.
SHARED_BYTES = 64 * 1024


class SharedArrays:
    """Allocates arrays that other processes can map, until it is closed."""

    def __init__(self):
        self._folders = {}
        self._copies = {}  # arrays of the caller by their id, and their shared copies

    def empty(self, shape, dtype):
        """Return a new array of zeros in shared memory; an `OSError` says that there is no room."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not n_bytes:
            return np.empty(shape, dtype)
        candidates = [MEMORY_FOLDER] if os.path.isdir(MEMORY_FOLDER) else []
        for parent in [*candidates, tempfile.gettempdir()]:
            handle, path = tempfile.mkstemp(dir=self._folder(parent))
            try:
                os.truncate(handle, n_bytes)
                if hasattr(os, "posix_fallocate"):  # else a full disk would end the process later
                    os.posix_fallocate(handle, 0, n_bytes)
            except OSError:
                os.unlink(path)
                continue
            finally:
                os.close(handle)
            return _map(path, dtype, "r+", 0, shape)
        raise OSError(f"There is no room for {n_bytes} bytes of shared memory.")

    def _folder(self, parent):
        if parent not in self._folders:
            self._folders[parent] = tempfile.mkdtemp(prefix=f"skcnn-{os.getpid()}-", dir=parent)
            resource_tracker.register(self._folders[parent], "folder")
        return self._folders[parent]

    def dumps(self, job):
        """Return a job as bytes; its large arrays are copied to shared memory once."""
        file = io.BytesIO()
        _Pickler(file, self).dump(job)
        return file.getvalue()

    def shared(self, array):
        """Return the shared copy of an array of the caller's."""
        if id(array) not in self._copies:
            copy = self.empty(array.shape, array.dtype)
            copy[...] = array
            self._copies[id(array)] = array, copy  # the array is kept, so that its id stays its own
        return self._copies[id(array)][1]

    def close(self):
        """Remove the files; memory is freed when the last process drops its arrays."""
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
            resource_tracker.unregister(folder, "folder")
        self._folders, self._copies = {}, {}


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
    """Pickles arrays in shared memory, and memory maps of files, as a reference to the file."""

    def __init__(self, file, arrays):
        super().__init__(file)
        self._arrays = arrays

    def persistent_id(self, obj):
        if not isinstance(obj, np.ndarray) or obj.dtype.hasobject:
            return None
        mapped = _mapped_file(obj)
        if mapped is None and obj.nbytes >= SHARED_BYTES:
            mapped = _mapped_file(self._arrays.shared(obj))
        return mapped and (*mapped, obj.shape, obj.dtype)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, reference):
        path, offset, shape, dtype = reference
        mode = "r+" if os.access(path, os.W_OK) else "r"
        return _map(path, dtype, mode, offset, shape)


def loads(data):
    """Return the job that `SharedArrays.dumps` has made bytes of, with arrays in the same memory."""
    return _Unpickler(io.BytesIO(data)).load()
