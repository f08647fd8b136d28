"""`python -m rspamd_llm`, the same as the command rspamd-llm."""

import sys

from rspamd_llm.cli import main

sys.exit(main())
