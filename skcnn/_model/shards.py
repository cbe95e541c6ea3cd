"""How a batch is cut into shards, each of which one worker computes at a time.

The cut depends on the network and the batch, never on the number of workers, so that the sums over
shards come out the same for every `n_jobs`.
"""

from functools import cache
from itertools import pairwise

import numpy as np

from skcnn._engine.blocks import LINE_BYTES, even_slices

# A shard holds as many images as keep its largest map at SHARD_SIZE numbers, between the two limits of
# SHARD_IMAGES: below 16 images runs get too short, above 64 nothing is gained (Zen 4, 2026-11: 32 images
# of 32x32x64 ran 9% faster than 64, 64 images of 28x28x8 15% faster than 32). Shards of tiny maps may
# hold more images, up to WORTHWHILE_SIZE numbers, and smaller batches are not split, since each shard
# costs 0.2 ms of calls.
SHARD_SIZE = 2 * 1024 * 1024
SHARD_IMAGES = (16, 64)
WORTHWHILE_SIZE = 64 * 1024

# Bytes of all that a network keeps of a shard until its backward pass; fewer images make a shard if maps
# are so large, 8 of 224x224 in the default network.
SHARD_BYTES = 165 * 1024 * 1024

# Numbers in the largest map, and most images, of a part of a prediction, for which nothing need be kept
# for a gradient. With maps of 28x28x8, pooled, parts of 157 images ran 13% faster than of 60, and parts
# of 313 no faster; LeNet-5 ran 5% faster with 110 (Zen 5, 2026-11).
PREDICT_SIZE = 512 * 1024
PREDICT_IMAGES = 168


def images_per_shard(map_size, n_bytes=0):
    """Return the number of images in a shard.

    Parameters
    ----------
    map_size : int
        Numbers in the largest map of an image.
    n_bytes : int
        Bytes that a network keeps of an image.
    """
    least, most = SHARD_IMAGES
    n_images = max(min(max(SHARD_SIZE // map_size, least), most), WORTHWHILE_SIZE // map_size)
    return max(min(n_images, SHARD_BYTES // n_bytes), 1) if n_bytes else n_images


@cache
def shard_slices(n_images, map_size, n_bytes=0):
    """Return slices that cut a batch into nearly equal shards.

    Large maps have shards of one size but for the last: each size has buffers of its own.
    """
    at_most = images_per_shard(map_size, n_bytes)
    if at_most < images_per_shard(map_size):
        return even_slices(n_images, -(-n_images // -(-n_images // at_most)))
    least = 2 if n_images * map_size > WORTHWHILE_SIZE and n_images > 1 else 1
    n_shards = max(-(-n_images // at_most), least)
    edges = np.linspace(0, n_images, n_shards + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def images_to_predict(map_size, n_bytes=0):
    """Return the number of images that are predicted together: whole lines of the cache.

    Whole cache lines pay: with 96 images instead of 90 or 105, networks on 28x28 maps predicted 6 to
    11% faster (Zen 5, 2026-11). Powers of two do not, since their rows share cache sets: with 60 images
    instead of 64, a network on 32x32 maps predicted 4% faster, and its first layer 40% (Zen 4, 2026-11);
    with 30 instead of 32, a wide one 3 to 15% (Zen 5).
    """
    n_images = max(images_per_shard(map_size), min(PREDICT_SIZE // map_size, PREDICT_IMAGES))
    if n_bytes and SHARD_BYTES // n_bytes < n_images:
        return max(SHARD_BYTES // n_bytes, 1)
    in_line = LINE_BYTES // np.dtype(np.float32).itemsize
    whole = n_images // in_line * in_line
    return whole if whole & (whole - 1) else n_images - n_images // 16


def predicted_parts(n_images, map_size, n_bytes=0):
    """Return slices of images that are predicted together."""
    return even_slices(n_images, images_to_predict(map_size, n_bytes))
