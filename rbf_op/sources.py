"""Finds, names and hashes the C and CUDA source files that the Ops compile.

In a checkout c_code/ and cuda/ lie beside the package; an installed wheel carries them inside it.
Standard library only.
"""

import hashlib
import os

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def source_directory(name):
    """Absolute path of the folder `name` ("c_code" or "cuda"), wherever it is installed.

    Raises FileNotFoundError, naming both places that were searched.
    """
    places = [os.path.join(os.path.dirname(_PACKAGE), name), os.path.join(_PACKAGE, name)]
    # A wheel's site-packages may hold an unrelated sibling folder: the package's own comes first
    # there, and a checkout has no such folder inside the package.
    for place in reversed(places):
        if os.path.isdir(place):
            return place
    raise FileNotFoundError(
        "rbf_op: its source folder %r is in neither %s nor %s; the installation is incomplete, "
        "install the package again." % (name, places[0], places[1])
    )


def sources_hash(name, suffixes=(".h", ".c", ".cu", ".cuh")):
    """sha256 (hex) of every source file in a folder, names included, in sorted order.

    Read from disk at each call, so that an edited header is seen: Theano's own module key covers
    the text of `#include` lines, not of the files they name.
    """
    directory = source_directory(name)
    digest = hashlib.sha256()
    for file_name in sorted(os.listdir(directory)):
        if file_name.endswith(suffixes):
            with open(os.path.join(directory, file_name), "rb") as source:
                content = source.read()
            digest.update(("%s %d\n" % (file_name, len(content))).encode())
            digest.update(content)
    return digest.hexdigest()
