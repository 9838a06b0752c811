"""python -m avpipe: the same as the command avpipe."""

import sys

from avpipe.cli import main

sys.exit(main())
