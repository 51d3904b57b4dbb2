"""
The image of one poll: the bytes of all its blocks side by side, decoded in one go.

Each poll makes its image anew, so a block that failed cannot show the bytes of an earlier poll.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.modbus.exchange import Answer
from adapters.modbus.planner import Block
from adapters.modbus.registers import Decoded, Decoder
from adapters.modbus.types import Field
from schemas import status


class Layout:
    """
    Where each item of a row of blocks lies in their image.

    Attributes:
        blocks: the blocks, in order.
        tag: int32[n], tag number of each row; rows follow the blocks, and the items in them.
        single: bool[n], whether the row is one float32.
    """

    def __init__(self, blocks: Sequence[Block], fields: Mapping[int, Field]) -> None:
        self.blocks = tuple(blocks)
        places: list[tuple[Field, int, int]] = []
        tags: list[int] = []
        start = 0
        self._bytes: list[int] = []
        for block in self.blocks:
            for item in block.items:
                at = item.address - block.address
                byte, bit = divmod(at, 8) if block.function <= 2 else (2 * at, 0)
                places.append((fields[item.tag], start + byte, bit))
                tags.append(item.tag)
            self._bytes.append((block.count + 7) // 8 if block.function <= 2 else 2 * block.count)
            start += self._bytes[-1]
        self.tag = np.array(tags, np.int32)
        self.single = np.array([field.kind == "float32" and not field.elements for field, _, _ in places], np.bool_)
        self._rows = np.array([len(block.items) for block in self.blocks], np.intp)
        self._decoder = Decoder(places)

    def fits(self, answers: Sequence[Answer]) -> bool:
        """Whether these are the answers to exactly the blocks of this layout."""
        return len(answers) == len(self.blocks) and all(
            answer.block is block for answer, block in zip(answers, self.blocks, strict=True)
        )

    def decode(self, answers: Sequence[Answer]) -> tuple[Decoded, NDArray[np.uint32], NDArray[np.int64]]:
        """Values, status and time of arrival of each row. Rows of a failed block have no value."""
        image = b"".join(
            answer.payload if answer.status == status.GOOD else bytes(size)
            for answer, size in zip(answers, self._bytes, strict=True)
        )
        decoded = self._decoder.decode(np.frombuffer(image, np.uint8))
        codes = np.repeat(np.array([answer.status for answer in answers], np.uint32), self._rows)
        times = np.repeat(np.array([answer.arrived_ns for answer in answers], np.int64), self._rows)
        bad = codes != status.GOOD
        if bad.any():
            decoded.value[bad] = np.nan
            exact = {row: value for row, value in decoded.exact.items() if not bad[row]}
            repaired = [row for row in decoded.repaired if not bad[row]]
            undecodable = [row for row in decoded.undecodable if not bad[row]]
            decoded = Decoded(decoded.value, exact, repaired, undecodable)
        codes[decoded.undecodable] = status.BAD_DECODING_ERROR
        return decoded, codes, times
