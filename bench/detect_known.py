"""
What others reach: baselines measured with the same scorers on the same files, and published results of whole sets.

Baselines: limits from the rows that may be learned from (SKAB: the first 400 of a file; TEP: 99 % quantile of the
normal run; NAB: best threshold over these files). Published: the READMEs of waico/SKAB and numenta/NAB.
"""

from __future__ import annotations

from typing import Final

_NONE: Final = ("", "", "")

SKAB_KNOWN: Final[tuple[tuple[str, ...], ...]] = (
    ("published predictions, these files: Conv-AE", "0.719", "15.88", "36.03", *_NONE),
    ("— MSET", "0.726", "49.94", "18.03", *_NONE),
    ("— T2+Q", "0.683", "36.34", "31.58", *_NONE),
    ("— LSTM-AE", "0.625", "27.34", "43.62", *_NONE),
    ("— T2", "0.596", "33.60", "45.00", *_NONE),
    ("— isolation forest", "0.253", "2.03", "85.25", *_NONE),
    ("baseline EWMA .1, limit 6", "0.755", "38.81", "18.73", "29.83", "16 of 35", "97"),
    ("baseline EWMA .05, limit 8", "0.716", "22.9", "33.04", "29.56", "20 of 35", "16"),
    ("baseline PCA T2+Q, empirical limits", "0.710", "49.69", "20.87", "3.08", "25 of 35", "139"),
    ("baseline largest z above 3", "0.710", "50.12", "20.63", "-22.56", "23 of 35", "332"),
    ("baseline T2 k=4, 15 in a row", "0.524", "13.69", "60.18", "13.06", "29 of 35", "8"),
    ("baseline isolation forest .01", "0.337", "9.19", "78.1", "18.37", "18 of 35", "159"),
    ("baseline always 1", "0.695", "100.0", "0.0", "-1.57", "35 of 35", "10"),
    ("published, all 34 files: Conv-AE", "0.78", "13.55", "28.02", "23.61", "82 of 127", "23"),
    ("— MSET", "0.78", "39.73", "14.13", "13.84", "96 of 127", "66"),
    ("— T2+Q", "0.76", "26.62", "24.92", "25.35", "72 of 127", "232"),
    ("— LSTM-AE", "0.74", "29.96", "25.92", "23.51", "88 of 127", "69"),
    ("— MSCRED", "0.36", "49.94", "69.88", "32.42", "55 of 127", "342"),
    ("— Vanilla AE", "0.39", "2.59", "75.15", "11.41", "103 of 127", "106"),
    ("— isolation forest", "0.29", "2.56", "82.89", "26.16", "76 of 127", "135"),
)

TEP_KNOWN: Final[tuple[tuple[str, ...], ...]] = (
    (
        "baseline T2, 31 components",
        "68.77",
        "7.07",
        "99.5 (4) · 74.0 (20) · 32.75 (0) · 97.62 (22) · 95.5 (36) · 38.0 (196) · 44.0 (462)",
    ),
    (
        "baseline Q",
        "83.95",
        "20.96",
        "100.0 (0) · 100.0 (0) · 51.25 (0) · 97.88 (15) · 96.12 (35) · 72.0 (14) · 70.38 (238)",
    ),
    (
        "baseline T2 or Q",
        "86.27",
        "26.44",
        "100.0 (0) · 100.0 (0) · 57.12 (0) · 98.5 (13) · 96.25 (35) · 81.0 (14) · 71.0 (24)",
    ),
    (
        "baseline full T2",
        "95.32",
        "26.2",
        "100.0 (0) · 100.0 (0) · 100.0 (0) · 98.88 (13) · 96.5 (33) · 97.62 (3) · 74.25 (238)",
    ),
    (
        "baseline EWMA 0.1, largest of the variables",
        "83.36",
        "3.85",
        "99.0 (8) · 100.0 (0) · 99.38 (1) · 97.5 (20) · 95.38 (37) · 27.38 (288) · 64.88 (234)",
    ),
    (
        "baseline isolation forest .01",
        "61.18",
        "8.8",
        "97.0 (7) · 14.5 (146) · 37.62 (10) · 98.12 (22) · 95.25 (46) · 39.0 (189) · 46.75 (453)",
    ),
)

NAB_KNOWN: Final[tuple[tuple[str, ...], ...]] = (
    ("published scores, these files: ARTime", "88.5", *_NONE),
    ("— htmjava", "85.3", *_NONE),
    ("— numenta", "78.8", *_NONE),
    ("— CAD OSE", "76.5", *_NONE),
    ("— random cut forest", "75.2", *_NONE),
    ("— earthgecko skyline", "63.6", *_NONE),
    ("— ADVec", "63.5", *_NONE),
    ("— relative entropy", "50.8", *_NONE),
    ("— windowed Gaussian", "50.3", *_NONE),
    ("— skyline", "39.1", *_NONE),
    ("— KNN-CAD", "35.9", *_NONE),
    ("baseline rolling median/MAD 500, one alarm per 288 rows", "28.1", "22.1", "37.8", "4 of 7, 34 false rows"),
    ("baseline EWMA z", "26.5", "26.5", "27.2", "2 of 7, 0 false rows"),
)
