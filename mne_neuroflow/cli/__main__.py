"""``python -m mne_neuroflow.cli``."""

import sys

from . import main

sys.exit(main())
