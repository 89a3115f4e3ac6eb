"""Virtual intracranial EEG from scalp EEG, as ordinary MNE objects.

Everything this package returns is a prediction, never a recording.
"""

from lazy_loader import attach_stub as _attach_stub

__version__ = "0.1.0"

# torch takes seconds to import and MNE half a second, so that every public name of
# __init__.pyi is resolved only when it is first used.
__getattr__, _public, __all__ = _attach_stub(__name__, __file__)


def __dir__():
    return [*_public(), "__version__"]
