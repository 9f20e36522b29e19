"""`python -m appservice.cli` is `opsroom`."""

import sys

from appservice.cli.main import main

sys.exit(main())
