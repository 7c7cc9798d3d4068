"""Numbers from an integer hash of (name, index), the same as in tests/golden/hash_weights.h."""

import numpy as np

FNV_OFFSET, FNV_PRIME, MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def name_hash(name):
    h = FNV_OFFSET
    for byte in name.encode():
        h = ((h ^ byte) * FNV_PRIME) & MASK
    return h


def hashes(name, count):
    """One splitmix64 output for each index."""
    with np.errstate(over="ignore"):
        z = np.arange(count, dtype=np.uint64) + np.uint64(name_hash(name))
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, count, center=0.0, scale=1.0):
    """fp32 values in center + scale * [-1, 1)."""
    u = (hashes(name, count) >> np.uint64(40)).astype(np.float64) / float(1 << 23) - 1.0
    return (center + scale * u).astype(np.float32)


def rule(name, shape):
    """(center, scale) that keep activations near 1: norms near 1, products by their fan-in."""
    if len(shape) == 1:
        return (1.0, 0.2) if name.endswith(".weight") else (0.0, 0.1)
    if "lora_" in name:
        return 0.0, (3.0 / shape[0]) ** 0.5
    if len(shape) == 2 and ("embed" in name or name.endswith(".query")):
        return 0.0, 0.5
    fan_in = int(np.prod(shape)) // shape[0]
    return 0.0, (3.0 / fan_in) ** 0.5


def weight(name, shape):
    center, scale = rule(name, shape)
    return uniform(name, int(np.prod(shape)), center, scale).reshape(shape)


PROJECTIONS, SAMPLES = 6, 6


def digest(name, gradient):
    """A gradient in 13 numbers: its norm, six products with hashed +-1 vectors, six elements."""
    g = np.asarray(gradient, dtype=np.float64).ravel()
    result = [float(np.sqrt(np.dot(g, g)))]
    for k in range(PROJECTIONS):
        signs = 1.0 - 2.0 * (hashes(f"sign {k} {name}", g.size) >> np.uint64(63)).astype(np.float64)
        result.append(float(np.dot(g, signs)))
    for index in hashes(f"sample {name}", SAMPLES):
        result.append(float(g[int(index % np.uint64(g.size))]))
    return result
