"""Where a run's record goes: its folder always, and whatever else its user asks for. None of them can end a run."""

import warnings

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it
