"""Which part of a collection a model holds, where one server cannot hold all of it."""

from __future__ import annotations

from typing import NamedTuple

# The signature by which a shard says which one it is.
DESCRIBE_SHARD = "describe_shard"


class Shard(NamedTuple):
    """One of the models that hold a collection together.

    Attributes:
        number: Its number, from 0; shard after shard, the items come in the order of the index.
        num_shards: How many there are.
        export_id: What the shards of one export have in common, and no others.
    """

    number: int
    num_shards: int
    export_id: str

    def __str__(self) -> str:
        return f"shard {self.number} of {self.num_shards} of export {self.export_id}"

    @property
    def suffix(self) -> str:
        """What the name of its model's folder ends with."""
        return f"-shard-{self.number}-of-{self.num_shards}"
