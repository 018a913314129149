"""Records of runs: written while a run trains, read afterwards, and the meaning of each number.

Written: `folder`, and if asked for `mongo` and `boards`. Read: `reader`, `table`. Compared:
`groups`, `statistics`, `summary`. A failure to write a record never ends its run.
"""

import warnings

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Sacred imports it
