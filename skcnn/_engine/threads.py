"""A team of threads that shares the shards of a batch."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
from threadpoolctl import ThreadpoolController


@cache
def _controller():
    """Return the process's controller of BLAS threads; finding the libraries takes milliseconds."""
    return ThreadpoolController()


class Team:
    """Run a function on many items in `n_jobs` threads, BLAS held to one thread meanwhile.

    NumPy releases the interpreter lock inside its loops and products, so threads suffice. The
    calling thread works too. BLAS is held to one thread for `n_jobs=1` as well: its own threads
    may add in another order, and results must not depend on `n_jobs`.
    """

    def __init__(self, n_jobs=None):
        self.n_workers = joblib.effective_n_jobs(n_jobs)

    def __enter__(self):
        self._limits = _controller().limit(limits=1, user_api="blas")
        self._limits.__enter__()
        self._pool = ThreadPoolExecutor(self.n_workers - 1) if self.n_workers > 1 else None
        return self

    def __exit__(self, *error):
        if self._pool is not None:
            self._pool.shutdown()
        self._limits.__exit__(*error)

    def map(self, function, items):
        """Return ``[function(item, worker) for item in items]``; each worker takes every n-th."""
        items = list(items)
        n_workers = min(self.n_workers, len(items))
        results = [None] * len(items)

        def work(worker):
            for i in range(worker, len(items), n_workers):
                results[i] = function(items[i], worker)

        helpers = [self._pool.submit(work, worker) for worker in range(1, n_workers)]
        try:
            work(0)
        finally:
            errors = [helper.exception() for helper in helpers]
        for error in filter(None, errors):
            raise error
        return results
