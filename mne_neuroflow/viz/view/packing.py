"""Compression of traces to integers with a scale for each second, and to text.

The page decompresses them. The largest value of a second has 63 steps, so the error is
at most 0.8 % of it, which is less than the width of a line.
"""

import base64
import zlib

import numpy as np

_STEPS = 63  # in each direction


class Pack:
    """Concatenated arrays, and their positions.

    Attributes
    ----------
    index : dict of str -> dict
        The position of each array: ``offset`` in bytes, ``rows``, ``columns``, and for
        traces ``block`` and ``scales``, the offset of their scales.
    """

    def __init__(self):
        self.index = {}
        self._parts, self._size = [], 0

    def add_traces(self, name, data, block):
        """Add signals, with a separate scale for each block of samples.

        Parameters
        ----------
        name : str
            Name of the signals in the page.
        data : ndarray, shape (n_rows, n_columns)
            Signals in any unit. ``n_columns`` is a multiple of ``block``.
        block : int
            Samples with the same scale.
        """
        blocks = data.reshape(len(data), -1, block)
        peak = np.abs(blocks).max(axis=2)
        scales = (np.where(peak > 0, peak, 1) / _STEPS).astype("<f4")
        steps = np.rint(blocks / scales[..., np.newaxis])
        steps = np.clip(steps, -_STEPS, _STEPS).astype(np.int8).reshape(data.shape)
        self.add(f"{name}/scales", scales)
        self.add(name, steps, block=block)

    def add(self, name, data, **more):
        """Add an array unchanged, except for bytes, which become differences in rows.

        Parameters
        ----------
        name : str
            Name of the array in the page.
        data : ndarray, shape (n_rows, n_columns)
            Array of 8-bit integers or float32.
        **more
            Further entries for the page.
        """
        if data.dtype.itemsize == 1:
            kind = "i1" if data.dtype.kind == "i" else "u1"
            # Neighbours are similar, so differences take fewer bits. They wrap around.
            data = np.diff(data.view(np.uint8), axis=1, prepend=np.uint8(0))
        else:
            kind, data = "f4", np.ascontiguousarray(data, "<f4")
        content = data.tobytes()
        rows, columns = data.shape
        self.index[name] = dict(
            offset=self._size, rows=rows, columns=columns, kind=kind, **more
        )
        filled = content + bytes(-len(content) % 4)  # numbers of four bytes are aligned
        self._parts.append(filled)
        self._size += len(filled)

    def text(self):
        """Write all arrays.

        Returns
        -------
        text : str
            Base64 of their zlib stream.
        """
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode()
