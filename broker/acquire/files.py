"""Names of the files in `data_dir` by which acquire tells other processes of itself."""

from typing import Final

STATUS_FILE: Final = "acquire.json"
METRICS_FILE: Final = "acquire.prom"
