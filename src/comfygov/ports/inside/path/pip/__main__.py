"""`python -m pip`."""

from __future__ import annotations

import pip

raise SystemExit(pip.main())
