"""`python -m ensurepip`."""

from __future__ import annotations

import ensurepip

raise SystemExit(ensurepip._main())  # type: ignore[attr-defined]  # noqa: SLF001 (the name that Python gives it)
