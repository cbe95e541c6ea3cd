"""Who computes: run numbered items on one process, on threads, or on worker processes.

A caller opens a `Pool`, allocates its results with `Pool.array`, hands over a job with `Pool.start`
and then calls `Pool.run` as often as it likes. A job is any object that can be called as
``job(item, worker, *numbers)`` and leaves its result in arrays of the pool. How many workers there
are, and of which kind, never changes a result. BLAS is held to one thread meanwhile.

What comes in are jobs and numbers; what goes out are filled arrays and errors. This folder must not
know what a job computes: no layers, no networks, no images.
"""
