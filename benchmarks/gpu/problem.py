"""What is timed: arrays of one size, what is right in float64, and the error of a result.

NumPy only; the device is given.
"""

import functools

import numpy as np

CHECKED_BYTES = 1 << 28  # of float64 on the host, when rows of a result are checked
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}  # of the largest entry
SUMMED_PAIRS = 1 << 24  # no more are added up on the host, for the gradient by gamma


class Problem:
    """Arrays of one size on the device, and the host's copies to check with.

    They are made where they are first used, by a contender whose cell says if there is no memory.
    """

    def __init__(self, device, dtype, n, d, p):
        self.device, self.dtype, self.n, self.d, self.p = device, dtype, n, d, p
        self.gamma = 1.5 / d
        self.checked = max(1, min(16, CHECKED_BYTES // (8 * n * d)))

    @functools.cached_property
    def host(self):
        random = np.random.default_rng(0)

        def uniform(*shape):
            return 2 * random.random(shape, self.dtype) - 1

        n, d, p = self.n, self.d, self.p
        return dict(
            x=uniform(n, d), y=uniform(n, d), w=uniform(n, p), q=uniform(n, p),
            gamma=np.asarray(self.gamma, self.dtype),
        )  # fmt: skip

    @functools.cached_property
    def on_device(self):
        return {name: self.device.to_device(v) for name, v in self.host.items()}

    def error(self, found, what):
        """The largest error of the checked rows, each as a share of what is largest of its kind.

        found: rows of results by name; at least one of them must be expected.
        """
        errors = []
        for name in set(found) & set(self.expected[what]):
            expected, scale = self.expected[what][name]
            rows = np.asarray(found[name], np.float64).reshape(expected.shape)
            errors.append(np.abs(rows - expected).max() / scale)
        return np.max(errors)  # NaN, if there is one

    @functools.cached_property
    def expected(self):
        """{what: {name: (the first rows in float64, the size that errors are a share of)}}

        Of K, the product, the gradients of sum(K * K) / 2 in the form that is timed and of the
        product. "gammas" is the gradient by a gamma for each centre; "gamma" and "amplitude" are
        those by one for all.
        """
        x, y, w, q = (self.host[name].astype(np.float64) for name in "xywq")
        some, gamma = slice(self.checked), float(self.host["gamma"])

        def pairs(a, b):
            difference = a[:, None, :] - b[None]
            distance = (difference**2).sum(-1)
            return np.exp(-gamma * distance), difference, distance

        def points(weight, difference):
            return -2 * gamma * np.einsum("ij,ijk->ik", weight, difference)

        K, difference, _ = pairs(x[some], y)
        Kt, difference_t, distance_t = pairs(y[some], x)
        G, Gt = q[some].dot(w.T), w[some].dot(q.T)  # dK of the product
        found = {
            "K kept": {"K": K},
            "K brought back": {"K": K},
            "gradient of K": {
                "x": points(K * K, difference),
                "y": points(Kt * Kt, difference_t),
                "gammas": -(Kt * Kt * distance_t).sum(1),
            },
            "product": {"P": K.dot(w)},
            "gradient of product": {
                "x": points(K * G, difference),
                "y": points(Kt * Gt, difference_t),
                "weights": Kt.dot(q),
                "gammas": -(Kt * Gt * distance_t).sum(1),
            },
        }
        found = {
            what: {name: (rows, np.abs(rows).max()) for name, rows in results.items()}
            for what, results in found.items()
        }
        if self.n**2 <= SUMMED_PAIRS:
            distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x.dot(y.T)
            K = np.exp(-gamma * distance)
            for what, dK in (("gradient of K", K), ("gradient of product", q.dot(w.T))):
                for name, factor in (("gamma", -distance), ("amplitude", 1)):
                    terms = (K * dK * factor).sum(0)
                    total = terms.sum()  # of either sign: it may be small by chance
                    found[what][name] = total, max(abs(total), np.sqrt((terms**2).sum()))
        return found

    @property
    def seconds_to_make(self):
        """About what its arrays and what is expected take on the host, if they are not there."""
        return 0 if "host" in self.__dict__ else 1e-7 * self.n * (self.d + self.p + 20)
