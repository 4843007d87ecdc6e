"""The `README.txt` of a version folder: what it is, and the lines that serve and ask it."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tfpqn.items import ItemSpec, items_of_kind

# The newest stock image known to exist (August 2026); later ones serve the folder as well.
IMAGE_TAG = "2.20.0"

TEMPLATE = string.Template("""\
$name, version $version: a search by tfpqn
$underline

$num_items items, codes of $bytes_per_code bytes; the nearest $top_k are answered$lists.$shard
manifest.json tells sizes, versions, ops, signatures and checksums. Written with TensorFlow
$tensorflow_version.

Serve it with the stock image, from the folder that holds `$folder/$version`:

    docker run --rm -p 8500:8500 -p 8501:8501 -v "$$PWD/$folder:/models/$name:ro" \\
        -e MODEL_NAME=$name tensorflow/serving:$image_tag

with server-side batching:

    docker run --rm -p 8500:8500 -p 8501:8501 -v "$$PWD/$folder:/models/$name:ro" \\
        -e MODEL_NAME=$name tensorflow/serving:$image_tag \\
        --enable_batching --batching_parameters_file=/models/$name/$version/batching_params.pbtxt

or, for a try on this machine without Docker, at the same ports:

    tfpqn serve --model-base-path $folder$model_name --enable-batching

Ask it (port 8501 is REST, 8500 gRPC):

    curl -d "{\\"inputs\\": {\\"$input\\": [$value]}}" \\
        http://localhost:8501/v1/models/$name:predict

    curl -d '{"signature_name": "search_by_id", "inputs": {"item_ids": [$item_id]}}' \\
        http://localhost:8501/v1/models/$name:predict

    tfpqn query --address localhost:8500 --model $name $example

Signatures: $signatures.

Batching merges requests only where all but the first axis are equal: send exclude_ids and
tags in lists of one length (fill up with $no_id and ""), clips with one number of frames, and
search_k and search_with_probes to a server without batching.

Check the folder: tfpqn verify $folder/$version
A SavedModel is a program: load only what comes from people you trust.
""")


_SHARD = string.Template("""
This is shard $number of $num_shards, export $export_id: a part of the collection. Servers of
all shards under the name `$name`, and `tfpqn query` with their addresses, search the whole.""")


def write_readme(manifest: dict[str, Any], name: str, path: Path) -> str:
    """The text for the version at `path` of the model `name`."""
    folder, version = path.parent.name, path.name
    title = f"{name}, version {version}: a search by tfpqn"
    lists = string.Template(", found in $num_probes of $num_lists lists")
    items = items_of_kind(manifest["items"])
    is_text = manifest["id_type"] == "string"
    return TEMPLATE.substitute(
        name=name,
        folder=folder,
        model_name="" if name == folder else f" --model-name {name}",
        shard=_SHARD.substitute(manifest["shard"], name=name) if manifest["shard"] else "",
        version=version,
        underline="=" * len(title),
        num_items=f"{manifest['num_items']:,}",
        bytes_per_code=manifest["quantizer"]["bytes_per_code"],
        top_k=manifest["top_k"],
        tensorflow_version=manifest["tensorflow_version"],
        image_tag=IMAGE_TAG,
        input=items.input_name,
        value=_describe_item(items),
        item_id='"ID"' if is_text else "ID",
        no_id='""' if is_text else "-1",
        example=items.example,
        lists=lists.substitute(manifest["storage"]) if "num_lists" in manifest["storage"] else "",
        signatures=", ".join(sorted(manifest["signatures"])),
    )


def _describe_item(items: ItemSpec) -> str:
    """A query in JSON, as a shell writes it; a clip is a list of frames, a vector of numbers."""
    if not items.has_pixels:
        return "[0.1, 0.2, ...]"
    value = '{\\"b64\\": \\"$(base64 -w0 FILE)\\"}'
    if not items.has_frames:
        return value.replace("FILE", items.example)
    return f"[{', '.join(value.replace('FILE', f'frame-{number}.jpg') for number in (1, 2))}]"
